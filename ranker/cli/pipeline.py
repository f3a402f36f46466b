"""Commands of the batch pipeline: init, config, prepare, train, evaluate, run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ranker.cli.options import (
    CORES,
    BeamFlags,
    Config,
    Json,
    Overrides,
    RunDir,
    Runner,
    Workers,
    emit,
    stderr_to_log,
)
from ranker.errors import UserError
from ranker.json_text import json_text
from ranker.terminal import Reporter


def config(
    file: Annotated[Path | None, typer.Argument(help="The experiment, a YAML file.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="The same.")] = None,
    overrides: Overrides = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read the first rows: what would be rejected and joined?")
    ] = False,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the log that --check reads.")] = 20_000,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of the file.")] = False,
    as_json: Json = False,
) -> None:
    """Check an experiment and print it resolved, with every default.

    With --check the first rows of the log are read as `prepare` would read them, and nothing is written. The exit code
    is 1 if `prepare` would refuse them.

    Example: ranker config --check configs/movielens-100k.yaml --set data.root=ml-100k
    """
    from ranker.config import Experiment, dump, load

    if schema:
        print(json_text(Experiment.model_json_schema(), indent=2, ensure_ascii=False))
        return
    path = config or file
    if path is None:
        raise UserError("ranker config: needs a FILE, or --schema")
    experiment = load(path, overrides or ())
    if not check:
        print(dump(experiment), end="")
        return
    with _quiet_imports():
        from pipelines.prepare.preview import check_rows

    checked = check_rows(experiment, rows)
    if as_json:
        remarks = [remark.as_dict() for remark in checked.remarks]
        emit({"check": {"rows": checked.rows_read, "is_whole": checked.is_whole, "remarks": remarks}})
    else:
        print(f"check: {'all' if checked.is_whole else 'the first'} {checked.rows_read:,} rows of the log")
        for remark in checked.remarks:
            print(remark)
    checked.refuse(experiment)


def init(
    files: Annotated[list[Path], typer.Argument(help="The log, and side tables if there are any.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write the configuration; else stdout.")
    ] = None,
    rows: Annotated[int, typer.Option(min=100, help="Rows of each file that are looked at.")] = 100_000,
) -> None:
    """Look at a log and write a configuration that runs, with the evidence for each choice and what is left to decide.

    Example: ranker init clicks.csv users.csv items.csv --output experiment.yaml
    """
    with _quiet_imports():
        from pipelines.init import propose

    text = propose(files, rows)
    if output is None:
        print(text, end="")
        return
    if output.exists():
        raise UserError(f"{output}: is there already; remove it, or name another file")
    from ranker.files import write_whole

    write_whole(output, text)
    questions = text.count("# QUESTION")
    print(
        f"wrote {output}, with {questions} open questions; next: ranker config --check {output}",
        file=sys.stderr,
    )


@contextmanager
def _quiet_imports() -> Iterator[None]:
    """Keeps back what Beam says of itself when it is imported; what is logged later is shown."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def prepare(
    config: Config,
    run_dir: RunDir,
    overrides: Overrides = None,
    runner: Runner = "FnApiRunner",
    workers: Workers = 1,
    beam: BeamFlags = None,
    as_json: Json = False,
) -> None:
    """Turn logs into examples, vocabularies and statistics.

    Example: ranker prepare --config configs/movielens-100k.yaml --set data.root=ml-100k --run-dir runs/ml
    """
    _stages(
        stages=["prepare"],
        config=config,
        run_dir=run_dir,
        overrides=overrides,
        runner=runner,
        workers=workers,
        beam=beam,
        as_json=as_json,
    )


def train(
    run_dir: RunDir,
    config: Annotated[
        Path | None, typer.Option("--config", help="Instead of the run's own configuration.")
    ] = None,
    overrides: Overrides = None,
    runner: Runner = "FnApiRunner",
    workers: Workers = CORES,
    beam: BeamFlags = None,
    as_json: Json = False,
) -> None:
    """Train what is not there yet of every arm's replicas, those of a large run each in a process of its own.

    Example: ranker train --run-dir runs/ml --set replicas.count=5
    """
    _stages(
        stages=["train"],
        config=config,
        run_dir=run_dir,
        overrides=overrides,
        runner=runner,
        workers=workers,
        beam=beam,
        as_json=as_json,
    )


def evaluate(
    run_dir: RunDir,
    config: Annotated[
        Path | None, typer.Option("--config", help="Instead of the run's own configuration.")
    ] = None,
    overrides: Overrides = None,
    runner: Runner = "FnApiRunner",
    workers: Workers = 1,
    beam: BeamFlags = None,
    as_json: Json = False,
) -> None:
    """Score the eval split with all replicas and compare them: evaluation/report.json and report.html.

    Example: ranker evaluate --run-dir runs/ml
    """
    _stages(
        stages=["evaluate"],
        config=config,
        run_dir=run_dir,
        overrides=overrides,
        runner=runner,
        workers=workers,
        beam=beam,
        as_json=as_json,
    )


def run(
    config: Config,
    run_dir: RunDir,
    overrides: Overrides = None,
    runner: Runner = "FnApiRunner",
    workers: Workers = CORES,
    beam: BeamFlags = None,
    as_json: Json = False,
) -> None:
    """Prepare, train and evaluate; a second run continues, and skips what has not changed.

    Example: ranker run --config configs/movielens-100k.yaml --set data.root=ml-100k --run-dir runs/ml
    """
    _stages(
        stages=["prepare", "train", "evaluate"],
        config=config,
        run_dir=run_dir,
        overrides=overrides,
        runner=runner,
        workers=workers,
        beam=beam,
        as_json=as_json,
    )


def _stages(
    stages: list[str],
    config: Path | None,
    run_dir: Path,
    overrides: list[str] | None,
    runner: str,
    workers: int,
    beam: list[str] | None,
    as_json: bool,
) -> None:
    from ranker import layout
    from ranker.config import load

    if config is None:
        config = layout.config_path(run_dir)
    experiment = load(config, overrides or ())

    reporter = Reporter(as_json)
    with reporter.work(), stderr_to_log(run_dir, "beam.log"):
        from pipelines.run import run_stages
        from pipelines.runner import RunnerOptions

        options = RunnerOptions(runner=runner, workers=workers, flags=tuple(beam or ()))
        result = run_stages(stages, experiment, run_dir, options, reporter)

    from serving.run_directory import deploy

    if "evaluate" in stages:
        deploy(run_dir, report=reporter.line)
        reporter.line(f"report: {layout.evaluation_dir(run_dir) / 'report.html'}")
        reporter.line(result["evaluate"]["sentence"])
    if as_json:
        emit(result)
