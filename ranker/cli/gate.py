"""`ranker gate`: whether a refresh may go live."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ranker.cli.compare import read_scores
from ranker.cli.options import (
    Item,
    Json,
    JsonRequest,
    JsonScores,
    ModelName,
    OptionalRunDir,
    OutputName,
    ProbeFile,
    Scale,
    Signature,
    emit,
    present_options,
    stderr_to_log,
)
from ranker.errors import UserError
from ranker.storage import is_remote
from ranker.terminal import Reporter, stderr_to_file

if TYPE_CHECKING:
    from serving.targets.scoring import ModelCall

CALL_MISTAKE = 3
"""The gate's exit code where it could not be asked: 0, 1 and 2 are its answers."""
_USAGE_ERROR: Any = (
    typer.BadParameter.__base__
)  # Typer brings its own Click, and has no other public name for it


class GateCommand(TyperCommand):
    """A command whose mistakes of the call have an exit code of their own."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """As of any command; options that are wrong or missing exit with `CALL_MISTAKE`."""
        try:
            return super().make_context(*args, **options)
        except _USAGE_ERROR as error:
            error.show()
            raise SystemExit(CALL_MISTAKE) from None
        except UserError as error:
            error.exit_code = CALL_MISTAKE
            raise

    def invoke(self, ctx: Any) -> Any:
        """As of any command; what the user got wrong exits with `CALL_MISTAKE`."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            error.exit_code = CALL_MISTAKE
            raise


def _model_call(run_dir: Path | None, model_name: str | None, call: dict[str, str]) -> ModelCall:
    """How the gate's models are asked: as the run directory says, with what is given instead."""
    from serving.run_directory import experiment_of, identity
    from serving.targets.scoring import ModelCall

    options = call | present_options(model_name=model_name)
    if run_dir is None:
        return ModelCall(**options)
    experiment = experiment_of(run_dir)
    defaults = {"model_name": experiment.serving.model_name, "item": experiment.item}
    if experiment.task == "regression":
        defaults["scale"] = identity(run_dir, experiment.deployed_arm, 0)["scale"]
    return ModelCall(**(defaults | options))


def _probe_path(run_dir: Path | None, probe_file: Path | None) -> Path:
    from ranker import layout

    if probe_file is not None:
        return probe_file
    if run_dir is None:
        raise UserError(
            "give --run-dir, or --probe, or files of scored rows with --request, --item and --score"
        )
    return layout.probe_path(run_dir)


def gate(
    candidate: Annotated[
        str,
        typer.Option(
            help="The new version: HOST:PORT, a URL, a SavedModel directory, or a file of scored rows."
        ),
    ],
    baseline: Annotated[list[str], typer.Option(help="What serves now, the same; repeat for more replicas.")],
    request: Annotated[
        list[str] | None,
        typer.Option(
            help="Of files: the column that says which rows are ranked together; repeat for several."
        ),
    ] = None,
    score: Annotated[str | None, typer.Option(help="Of files: the column of scores.")] = None,
    label: Annotated[str | None, typer.Option(help="Of files: the column of labels, 0 or 1.")] = None,
    run_dir: OptionalRunDir = None,
    probe_file: ProbeFile = None,
    model_name: ModelName = None,
    item: Item = None,
    signature: Signature = None,
    output: OutputName = None,
    scale: Scale = None,
    json_request: JsonRequest = None,
    json_scores: JsonScores = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="Measures that decide, of churn (top1_swap, ...) or quality (auc, logloss, ndcg@k); repeat for more."
        ),
    ] = None,
    margin: Annotated[float, typer.Option(min=0, help="How far above the baseline, as a share of it.")] = 0.1,
    allowance: Annotated[float, typer.Option(min=0, help="Churn that is intended, on top.")] = 0.0,
    quality_margin: Annotated[
        float, typer.Option(min=0, help="How much worse a quality measure may be, in its unit.")
    ] = 0.01,
    min_coverage: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the requests that each side must answer.")
    ] = 1.0,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Probe requests; default: all there are.")
    ] = None,
    deadline: Annotated[float, typer.Option(help="Seconds a request may take.")] = 5.0,
    junit: Annotated[Path | None, typer.Option(help="Also write a JUnit file.")] = None,
    as_json: Json = False,
) -> None:
    """May a refresh go live? Exit code 0 pass, 1 fail, 2 more requests needed, 3 a mistake in the call.

    It must answer every request, its churn against what serves must stay within what the serving replicas differ among
    themselves, and, where the requests have labels, its quality must not be worse.

    Example: ranker gate --run-dir runs/ml --candidate new:8500 --baseline a:8500 --baseline b:8500

    Any model, without a run directory:

    Example: ranker gate --probe probe.parquet --item sku --model-name m --candidate new:8500 --baseline a:8500

    By what models scored; several baselines say what is tolerated, one needs --allowance:

    Example: ranker gate --candidate new.parquet --baseline a.parquet --baseline b.parquet --request q --item sku --score p
    """
    from serving.monitor.judgement.gate import gate as compare_with_baselines
    from serving.monitor.judgement.gate import gate_scored
    from serving.monitor.judgement.gate_result import Options, save_result
    from serving.monitor.requests.probe import load_probe
    from serving.targets.scoring import ModelCall
    from serving.watch import monitor_settings

    call = present_options(
        item=item,
        signature=signature,
        output=output,
        json_request=json_request,
        json_scores=json_scores,
    )
    of_files = bool(request or score or label) or any(
        ".tfrecord" in Path(source).name for source in (candidate, *baseline)
    )
    if of_files:
        further = {"--probe": probe_file, "--model-name": model_name, "--requests": requests} | {
            f"--{name.replace('_', '-')}": value for name, value in call.items() if name != "item"
        }
        wrong = [flag for flag, value in further.items() if value is not None]
        if wrong or item is None:
            rule = f"{wrong[0]} must not be given" if wrong else "--item must be given"
            raise UserError(f"{rule} with files of scored rows (--request, --score, --label)")
        model = ModelCall(item=item)
    else:
        model = _model_call(run_dir, model_name, call | present_options(scale=scale))
    options = Options(
        measures=tuple(measure or ()),
        margin=margin,
        allowance=allowance,
        quality_margin=quality_margin,
        min_coverage=min_coverage,
        k=monitor_settings(run_dir).k,
        deadline=deadline,
        call=model,
    )
    # a gate may look at a run directory that it must not write to
    is_writable = run_dir is not None and (is_remote(run_dir) or os.access(run_dir, os.W_OK))
    # TensorFlow's, where models are read from disk
    with (
        stderr_to_log(run_dir, "gate.log")
        if run_dir is not None and is_writable
        else stderr_to_file(Path(os.devnull))
    ):
        if of_files:
            models = read_scores(
                [candidate, *baseline], request or [], model.item, [score] if score else [], label
            )
            result = gate_scored([candidate, *baseline], models, scale or "auto", options)
        else:
            probe = load_probe(_probe_path(run_dir, probe_file), model.item, requests)
            result = compare_with_baselines(candidate, baseline, probe, options)
    if run_dir is not None and not save_result(result, run_dir):
        Reporter(as_json).line(f"{run_dir} cannot be written: the dashboard will not show this answer")
    if junit is not None:
        try:
            junit.write_text(result.junit(), encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"--junit must be a file that can be written. Received: {junit} ({error.strerror})"
            ) from None
    if as_json:
        emit(result.as_dict())
    else:
        print(result.report())
    raise typer.Exit(result.exit_code)
