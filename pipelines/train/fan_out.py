"""The pipeline: specs in, a published replica each out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import apache_beam as beam

from pipelines.runner import RunnerOptions
from pipelines.train.launcher import Outcome, launch, read_outcome, write_outcome
from pipelines.train.watch import watch
from ranker import layout
from ranker.config import Experiment, dump
from ranker.errors import UserError
from ranker.seeds import ReplicaSpec
from ranker.training.leftovers import sweep, unfinished
from ranker.training.specs import read_manifest, replica_specs


def train(
    experiment: Experiment,
    run: Path,
    options: RunnerOptions,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Outcome]:
    """Trains what is not there yet of every arm's replicas.

    Args:
        experiment: the configuration; it becomes the run's `config.yaml`.
        run: the run directory, after `prepare`.
        options: the Beam runner; with one worker replicas train one after the other.
        progress: called with a line now and then.

    Returns:
        One outcome a replica, by arm and index.

    Raises:
        UserError: the run is not prepared, or a replica could not be trained; the others stand.
    """
    write_config(experiment, run)
    specs = replica_specs(experiment)
    read_manifest(run)
    pipeline = options.pipeline()
    _ = (
        pipeline
        | "Replicas" >> beam.Create(specs)
        # Without a shuffle between, all replicas would train in the worker that created them.
        | "Spread" >> beam.Reshuffle()
        | "Train" >> beam.ParDo(TrainReplica(str(run)))
    )
    with watch(run, specs, progress):
        options.run(pipeline)
    outcomes = [read_outcome(run, spec) for spec in specs]
    failed = [outcome for outcome in outcomes if outcome.version is None]
    if failed:
        first = failed[0]
        others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise UserError(
            f"replica {first.arm}/{first.replica} could not be trained in {first.attempts} attempt(s):"
            f" {first.error}{others}"
        )
    for outcome in outcomes:
        what = "unchanged, kept" if outcome.reused else "trained"
        progress(f"replica {outcome.arm}/{outcome.replica}: version {outcome.version} {what}")
    return outcomes


class TrainReplica(beam.DoFn):
    """Trains the replica an element names, in a process of its own; see `pipelines.train.launcher`.

    The outcome goes to a file beside the replica: a bundle that Beam retries finds the finished replica and only
    writes the outcome again.
    """

    def __init__(self, run: str):
        self._run = run

    def process(self, spec: ReplicaSpec) -> None:
        """Trains one replica."""
        outcome = launch(Path(self._run), spec)
        write_outcome(Path(self._run), outcome)
        state = "failed" if outcome.version is None else "reused" if outcome.reused else "trained"
        beam.metrics.Metrics.counter("train", state).inc()


def write_config(experiment: Experiment, run: Path) -> None:
    """Writes the resolved configuration, whole or not at all.

    Raises:
        UserError: the run directory cannot be written.
    """
    temporary = unfinished(run)
    try:
        run.mkdir(parents=True, exist_ok=True)
        sweep(run)
        temporary.write_text(dump(experiment), encoding="utf-8")
        temporary.replace(layout.config_path(run))
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UserError(f"{run}: cannot be written: {error.strerror}") from None
