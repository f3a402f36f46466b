"""Commands of the batch pipeline: config, prepare, train, evaluate, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ranker.cli.options import CORES, BeamFlags, Config, Json, Overrides, RunDir, Runner, Workers, emit
from ranker.terminal import Reporter, chatter_to


def config(config: Config, overrides: Overrides = None) -> None:
    """Check an experiment and print it resolved, with every default.

    Example: ranker config --config configs/movielens-100k.yaml --set training.epochs=2
    """
    from ranker.config import dump, load

    print(dump(load(config, overrides or ())), end="")


def prepare(
    config: Config,
    run_dir: Annotated[
        str, typer.Option("--run-dir", help="The run directory, or its URI in an object store.")
    ],
    overrides: Overrides = None,
    runner: Runner = "FnApiRunner",
    workers: Workers = 1,
    beam: BeamFlags = None,
    as_json: Json = False,
) -> None:
    """Turn logs into examples, vocabularies and statistics.

    Example: ranker prepare --config configs/movielens-100k.yaml --set data.root=ml-100k --run-dir runs/ml
    """
    if "://" not in run_dir:
        return _stages(["prepare"], config, Path(run_dir), overrides, runner, workers, beam, as_json)
    from pipelines.prepare import prepare as prepare_data
    from pipelines.runner import RunnerOptions
    from ranker.config import load

    reporter = Reporter(as_json)
    options = RunnerOptions(runner=runner, workers=workers, flags=tuple(beam or ()))
    with reporter.work():
        manifest = prepare_data(load(config, overrides or ()), run_dir, options, reporter.update)
    reporter.line(f"prepare: {manifest.counts['read']:,} rows in {run_dir}")
    if as_json:
        emit({"prepare": {"counts": manifest.counts, "remarks": manifest.remarks}})


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
    """Train what is not there yet of every arm's replicas, each in a process of its own.

    Example: ranker train --run-dir runs/ml --set replicas.count=5
    """
    _stages(["train"], config, run_dir, overrides, runner, workers, beam, as_json)


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
    _stages(["evaluate"], config, run_dir, overrides, runner, workers, beam, as_json)


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
    _stages(["prepare", "train", "evaluate"], config, run_dir, overrides, runner, workers, beam, as_json)


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
    with reporter.work(), chatter_to(run_dir / "logs" / "beam.log"):
        from pipelines.run import run_stages
        from pipelines.runner import RunnerOptions

        options = RunnerOptions(runner=runner, workers=workers, flags=tuple(beam or ()))
        result = run_stages(stages, experiment, run_dir, options, reporter)

    from serving.run_directory import deploy

    if "evaluate" in stages:
        deploy(run_dir)
        reporter.line(f"report: {layout.evaluation_dir(run_dir) / 'report.html'}")
    if as_json:
        emit(result)
