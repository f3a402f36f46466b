"""`ranker study`: the experiments behind the recipe, on the user's data."""

from __future__ import annotations

from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from ranker.cli.options import Json, Overrides, emit
from ranker.errors import UserError
from ranker.terminal import Reporter


class Study(str, Enum):
    """The studies, each a module of `ranker.study` with a `run`."""

    TRADEOFF = "tradeoff"
    SOURCES = "sources"
    SURFACE = "surface"
    SHAPES = "shapes"
    SWAPS = "swaps"


_WITHOUT_DATA = {Study.SURFACE, Study.SHAPES}


def study(
    name: Annotated[Study, typer.Argument(help="Which study.")],
    out: Annotated[Path, typer.Option(help="Where tables, pictures and the page go.")],
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="A prepared run (not for surface, shapes).")
    ] = None,
    overrides: Overrides = None,
    replicas: Annotated[int, typer.Option(help="Replicas of every recipe.")] = 5,
    lanes: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 1,
    rows: Annotated[int | None, typer.Option(min=1, help="At most so many training rows.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer recipes, for a first look.")] = False,
    as_json: Json = False,
) -> None:
    """Redraw the figures behind the recipe on your data; a second run goes on where the first stopped.

    tradeoff: prediction difference against accuracy, a curve an activation. sources: what initialisation, shuffle,
    activation and depth contribute. surface: loss surfaces and their local minima. shapes: every activation and its
    slope. swaps: which requests and items swap, against the near-tie prediction.

    Example: ranker study tradeoff --run-dir runs/ml --out studies/tradeoff --quick
    """
    from ranker import layout
    from ranker.config import load

    experiment = None
    if name not in _WITHOUT_DATA:
        if run_dir is None:
            raise UserError(
                f"the study '{name.value}' needs --run-dir, a run after `ranker prepare` or `ranker run`"
            )
        path = layout.config_path(run_dir)
        if not path.exists():
            raise UserError(
                f"{run_dir}: not a run directory (has no config.yaml); make one with `ranker run`"
            )
        experiment = load(path, overrides or ())
    reporter = Reporter(as_json)
    from ranker.study.options import Options

    options = Options(replicas=replicas, lanes=lanes, rows=rows, quick=quick)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from None
    with reporter.work():
        answer = import_module(f"ranker.study.{name.value}").run(
            experiment, run_dir, out, options, reporter.update
        )
    if as_json:
        emit({"answer": answer.text, "page": str(answer.page)})
    else:
        print(f"{answer.text}\npage: {answer.page}")
