"""The pipeline: specs in, a published replica each out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import apache_beam as beam

from pipelines.progress import StageProgress, silent
from pipelines.record import save_record
from pipelines.runner import RunnerOptions
from pipelines.train.launcher import Outcome, choose_epochs, is_undecided, launch, read_outcome, write_outcome
from pipelines.train.remote import local_run
from pipelines.train.together import StageProcesses, is_small
from pipelines.train.watch import watch
from ranker import layout
from ranker.config import Experiment, dump, load
from ranker.errors import UserError
from ranker.files import sweep, write_whole
from ranker.seeds import ReplicaSpec
from ranker.storage import is_remote, location
from ranker.training.specs import content_key, pilot_arm, read_manifest, replica_specs, together

_DISK_SECONDS, _STORE_SECONDS = 2.0, 10.0
"""Between two looks at how trainings stand."""


def train(
    experiment: Experiment,
    run: Path,
    options: RunnerOptions,
    progress: StageProgress = silent,
    processes: StageProcesses | None = None,
) -> list[Outcome]:
    """Trains what is not there yet of every arm's replicas.

    Args:
        experiment: the configuration; it becomes the run's `config.yaml`.
        run: the run directory, after `prepare`.
        options: the Beam runner; with one worker replicas train one after the other.
        progress: told how the stage and every replica stand.
        processes: train a run that is small, instead of a process a replica.

    Returns:
        One outcome a replica, by arm and index.

    Raises:
        UserError: the run is not prepared, or a replica could not be trained; the others stand.
    """
    write_config(experiment, run)
    specs = replica_specs(experiment)
    manifest = read_manifest(run)
    pilot = pilot_arm(experiment, manifest, run)
    keys = {spec: content_key(experiment, spec, manifest, pilot) for spec in specs}
    began = time.monotonic()
    on_disk = not is_remote(run)
    with watch(run, keys, progress, _DISK_SECONDS if on_disk else _STORE_SECONDS):
        if processes is not None and on_disk and options.is_local and is_small(experiment, manifest):
            outcomes = processes.train(keys, manifest["counts"]["train"], options.workers)
            counters: Mapping[str, int] = Counter(map(_state, outcomes))
        else:
            counters = options.run(_pipeline(run, specs, options))
            outcomes = [read_outcome(run, spec) for spec in specs]
    if counters.get("reused") != len(specs):
        save_record(run, "train", time.monotonic() - began, counters)
    failed = [outcome for outcome in outcomes if outcome.version is None]
    if failed:
        first = failed[0]
        further = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        tries = f" in {first.attempts} attempt(s)" if first.attempts else ""
        raise UserError(
            f"replica {first.arm}/{first.replica} could not be trained{tries}: {first.error}{further}"
        )
    for outcome in outcomes:
        action = "unchanged, kept" if outcome.reused else "trained"
        progress(f"replica {outcome.arm}/{outcome.replica}: version {outcome.version} {action}", 1.0)
    return outcomes


def _pipeline(run: Path, specs: list[ReplicaSpec], options: RunnerOptions) -> beam.Pipeline:
    pipeline = options.pipeline()
    if is_remote(run):
        # Workers that see no common disk would each train a pilot, and not all come to the same number.
        replicas = (
            pipeline
            | "Run" >> beam.Create([str(run)])
            | "Choose epochs" >> beam.ParDo(ChooseEpochs())
            | "Replicas" >> beam.FlatMap(lambda _: specs)
        )
    else:
        replicas = pipeline | "Replicas" >> beam.Create(specs)
    _ = (
        replicas
        # Without a shuffle between, all replicas would train in the worker that created them.
        | "Spread" >> beam.Reshuffle()
        | "Train" >> beam.ParDo(TrainReplica(str(run)))
    )
    return pipeline


def _state(outcome: Outcome) -> str:
    return "failed" if outcome.version is None else "reused" if outcome.reused else "trained"


class ChooseEpochs(beam.DoFn):
    """Trains the pilot of a run whose replicas it must choose the number of epochs for; gives the run again."""

    def process(self, run: str) -> Iterator[str]:
        """Trains the pilot, unless all replicas are trained or its decision is known."""
        path = location(run)
        if is_undecided(path):
            with local_run(path, ()) as local:
                choose_epochs(local)
        yield run


class TrainReplica(beam.DoFn):
    """Trains the replica an element names, in a process of its own; see `pipelines.train.launcher`.

    The outcome goes to a file beside the replica: a bundle that Beam retries finds the finished replica and only
    writes the outcome again.
    """

    def __init__(self, run: str):
        self._run = run

    def process(self, spec: ReplicaSpec) -> None:
        """Trains one replica."""
        run = location(self._run)
        with local_run(run, together(load(layout.config_path(run)), spec)) as local:
            outcome = launch(local, spec)
        write_outcome(run, outcome)
        beam.metrics.Metrics.counter("train", _state(outcome)).inc()


def write_config(experiment: Experiment, run: Path) -> None:
    """Writes the resolved configuration, whole or not at all.

    Raises:
        UserError: the run directory cannot be written.
    """
    sweep(run)
    write_whole(layout.config_path(run), dump(experiment))
