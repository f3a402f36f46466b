"""`ranker study`: the experiments behind the recipe, on the user's data."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from ranker.cli.options import CORES, Json, Overrides, emit
from ranker.errors import UserError
from ranker.terminal import Reporter

app = typer.Typer(
    help="Redraw the figures behind the recipe on your data; a second run continues where the first stopped.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_RunDir = Annotated[
    Path, typer.Option("--run-dir", help="A run directory after `ranker prepare` or `ranker run`.")
]
_Out = Annotated[Path, typer.Option(help="Where tables, pictures and the page go.")]
_Replicas = Annotated[int, typer.Option(help="Replicas of every recipe.")]
_Lanes = Annotated[int, typer.Option(min=1, help="Processes that train.")]
_Rows = Annotated[int | None, typer.Option(min=1, help="At most so many training rows.")]
_Quick = Annotated[bool, typer.Option("--quick", help="Fewer recipes, for a first look.")]

_ON_DATA = {
    "tradeoff": "Prediction difference against accuracy, a curve an activation; names the recipe that dominates.",
    "sources": "What initialisation, shuffle, activation, depth and width each contribute to the difference.",
    "refresh": "How far a refresh is from what it replaces: trained anew, warm started, or pulled to it.",
    "swaps": "Which requests and items swap, and swap rates against the near-tie prediction.",
}
_ALONE = {
    "surface": "Loss surfaces from ReLU to smooth, and their local minima.",
    "shapes": "Every activation and its slope.",
}


def _on_data(name: str) -> None:
    text = f"{_ON_DATA[name]}\n\nExample: ranker study {name} --run-dir runs/ml --out studies/{name} --quick"

    @app.command(name, help=text)
    def command(
        run_dir: _RunDir,
        out: _Out,
        overrides: Overrides = None,
        replicas: _Replicas = 5,
        lanes: _Lanes = CORES,
        rows: _Rows = None,
        quick: _Quick = False,
        as_json: Json = False,
    ) -> None:
        experiment = _load(run_dir, overrides)
        from ranker.study.options import StudyOptions
        from ranker.training import threads

        threads.use()
        options = StudyOptions(replicas, lanes, rows, quick)
        _answer(
            name=name,
            experiment=experiment,
            run_dir=run_dir,
            out=_writable(out),
            options=options,
            as_json=as_json,
        )


def _alone(name: str) -> None:
    @app.command(name, help=f"{_ALONE[name]}\n\nExample: ranker study {name} --out studies/{name}")
    def command(out: _Out, quick: _Quick = False, as_json: Json = False) -> None:
        from ranker.study.options import StudyOptions

        _answer(
            name=name,
            experiment=None,
            run_dir=None,
            out=_writable(out),
            options=StudyOptions(quick=quick),
            as_json=as_json,
        )


for _name in _ON_DATA:
    _on_data(_name)
for _name in _ALONE:
    _alone(_name)


@app.command()
def evidence(
    run_dirs: Annotated[
        list[Path], typer.Option("--run-dir", help="A prepared run; may be given several times.")
    ],
    page: Annotated[Path, typer.Option(help="The page to write.")] = Path("docs/evidence.md"),
    overrides: Overrides = None,
    replicas: _Replicas = 5,
    lanes: _Lanes = CORES,
    rows: _Rows = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A smoke run: everything computes, but too little to decide a claim."),
    ] = False,
    claim: Annotated[
        list[int] | None,
        typer.Option(help="Only this claim, 1 to 8, may be repeated; the others stay as they were."),
    ] = None,
    as_json: Json = False,
) -> None:
    """The project's claims, tested on prepared runs; writes a page with pictures.

    Example: ranker study evidence --run-dir runs/ml-1m --run-dir runs/synthetic --page docs/evidence.md
    """
    experiments = {run: _load(run, overrides) for run in run_dirs}
    from ranker.study import evidence as study
    from ranker.study import evidence_page
    from ranker.study.claims import ALL
    from ranker.study.options import StudyOptions
    from ranker.training import threads

    _writable(page.parent)
    threads.use()
    reporter = Reporter(as_json)
    evidence_of_runs = []
    with reporter.work():
        for run, experiment in experiments.items():
            out = page.parent / page.stem / experiment.name
            options = StudyOptions(replicas, lanes, rows, cache=run / "study" / "cache")
            options = options.smoke() if quick else options
            evidence_of_runs.append(
                (study.run(experiment, run, out, options, reporter.update, claim or ALL), out)
            )
    evidence_page.write(page, evidence_of_runs)
    if as_json:
        emit({"page": str(page), "evidence": [study_evidence for study_evidence, _ in evidence_of_runs]})
        return
    for study_evidence, _ in evidence_of_runs:
        for tested in study_evidence["claims"]:
            print(f"{study_evidence['name']}: {tested['title']}", *tested["verdicts"], sep="\n  ")
    print(f"page: {page}")


def _load(run_dir: Path, overrides: list[str] | None) -> Any:
    from ranker import layout
    from ranker.config import load

    path = layout.config_path(run_dir)
    if not path.exists():
        raise UserError(f"{run_dir}: not a run directory (has no config.yaml); make one with `ranker run`")
    experiment = load(path, overrides or ())
    if experiment.training.epochs != "auto":
        return experiment
    from ranker.training import threads
    from ranker.training.replica import with_decided_epochs

    threads.use()
    return with_decided_epochs(experiment, run_dir)


def _writable(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror}") from None
    return directory


def _answer(name: str, experiment: Any, run_dir: Path | None, out: Path, options: Any, as_json: bool) -> None:
    reporter = Reporter(as_json)
    with reporter.work():
        answer = import_module(f"ranker.study.{name}").run(experiment, run_dir, out, options, reporter.update)
    if as_json:
        emit({"answer": answer.text, "page": str(answer.page)})
    else:
        print(f"{answer.text}\npage: {answer.page}")
