"""From a prepared run to published replicas: what each training process does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ranker import layout
from ranker.architecture import Architecture, Weights, design
from ranker.backend import tf
from ranker.config import Experiment, Training, fingerprint
from ranker.errors import UserError
from ranker.export import versions
from ranker.files import sweep
from ranker.inputs import Inputs, plan
from ranker.mitigation.cost import lookups, parameters
from ranker.mitigation.learned import Learned, split_towers
from ranker.mitigation.recipes import learn
from ranker.seeds import ReplicaSpec
from ranker.training import checkpoint as checkpoints
from ranker.training import multi_worker, publish, threads
from ranker.training.pilot import EpochsDecision, decide
from ranker.training.rows.feed import Feed, of_shards
from ranker.training.served import PredictionsError, ServedReplicas
from ranker.training.specs import content_key, pilot_arm, read_manifest, together
from ranker.training.step.finite import NotFiniteError
from ranker.training.step.program import Program
from ranker.training.step.stacking import Member, stack
from ranker.training.trainer import Progress, train
from ranker.training.warm_start import earlier_version, warm_weights

_DISK_HINTS = ("No space", "Read-only", "File too large", "ermission")
Report = Callable[[ReplicaSpec, Progress], None]
"""Called about once a second with each replica in training, and how it stands."""
Scorer = Callable[[Mapping[str, tf.Tensor]], np.ndarray]
"""From raw columns [rows] to probabilities, float32 [rows]."""


def train_replica(
    experiment: Experiment,
    run: Path,
    spec: ReplicaSpec,
    report: Report = lambda spec, progress: None,
) -> tuple[int, bool]:
    """Trains and publishes one replica, unless it is there already.

    Args:
        experiment: the whole configuration.
        run: the run directory, after `prepare`.
        spec: the replica. With co-distillation all of its arm are trained and published.
        report: called about once a second with each replica in training.

    Returns:
        The version, and whether it was there already.

    Raises:
        UserError: the run is not prepared, or the model does not fit its inputs.
    """
    return train_replicas(experiment, run, [spec], report=report)[0]


def train_replicas(
    experiment: Experiment,
    run: Path,
    specs: Sequence[ReplicaSpec],
    lanes: int = 1,
    report: Report = lambda spec, progress: None,
    scorers: dict[Path, Scorer] | None = None,
) -> list[tuple[int, bool]]:
    """Trains and publishes replicas, stacked: those of one arm, and of arms of equal features, epochs and batches.

    Each has the bytes it would have from `train_replica`. What can be shared is made once for all of them: the rows in
    memory, the compiled step of replicas (and of the pilot) that have one shape, and the traced model of an arm.

    Args:
        experiment: the whole configuration.
        run: the run directory, after `prepare`.
        specs: the replicas.
        lanes: how many train at a time, each on a thread; the rows are in memory once for all.
        report: called about once a second with each replica in training.
        scorers: gets for each version's directory a function that scores as its SavedModel does.

    Returns:
        For each its version, and whether it was there already.

    Raises:
        UserError: as `train_replica`, of the first replica that could not be made. All others are published.
    """
    manifest = read_manifest(run)
    jobs = {spec: _job(experiment, run, spec, manifest) for spec in specs}
    stacks: dict[str, list[_Job]] = {}
    for job in jobs.values():
        if job.existing_version is None:
            stacks.setdefault(job.stack, []).append(job)
    done: dict[ReplicaSpec, int] = {}
    workshop = _Workshop(
        experiment=experiment, run=run, manifest=manifest, lanes=lanes, report=report, scorers=scorers
    )
    for stacked in stacks.values():
        try:
            done |= workshop.train_stack(stacked)
        except UserError as error:
            workshop.failures.append(error)
        except tf.errors.OpError as error:
            # TensorFlow writes the SavedModel itself: a full disk is one of its errors, not an OSError.
            if not any(hint in error.message for hint in _DISK_HINTS):
                raise
            reason = error.message.splitlines()[0]
            workshop.failures.append(UserError(f"{run}: cannot be written: {reason}"))
    if workshop.failures:
        raise workshop.failures[0]
    return [
        (done[s], False) if job.existing_version is None else (job.existing_version, True)
        for s, job in jobs.items()
    ]


@dataclass(frozen=True)
class _Job:
    """A replica to be made: its arm's experiment, content key, base path, and version if it is there already.

    `stack` is equal for replicas that can be trained in one stack.
    """

    spec: ReplicaSpec
    arm_config: Experiment
    key: str
    base: Path
    existing_version: int | None
    stack: str


def _job(experiment: Experiment, run: Path, spec: ReplicaSpec, manifest: dict[str, Any]) -> _Job:
    key = content_key(experiment, spec, manifest, pilot_arm(experiment, manifest, run))
    base = layout.replica_dir(run, spec.arm, spec.replica)
    base.mkdir(parents=True, exist_ok=True)
    sweep(base)
    arm_config = experiment.arm(spec.arm)
    features = {name: feature.model_dump(mode="json") for name, feature in arm_config.features.items()}
    training = arm_config.training
    shared_settings = [features, training.epochs, training.batch_size, training.loss]
    alone = None if arm_config.mitigation is None else spec.arm
    if arm_config.training.distribution == "multi_worker":
        alone = spec.name
    return _Job(
        spec=spec,
        arm_config=arm_config,
        key=key,
        base=base,
        existing_version=publish.finished(base, key),
        stack=fingerprint(shared_settings, alone),
    )


class _Workshop:
    """Trains and publishes stacks of jobs, and holds what later stacks can use again.

    Attributes:
        failures: what kept replicas from being published.
    """

    def __init__(
        self,
        experiment: Experiment,
        run: Path,
        manifest: dict[str, Any],
        lanes: int,
        report: Report,
        scorers: dict[Path, Scorer] | None,
    ):
        self._experiment, self._run, self._manifest = experiment, run, manifest
        self._lanes, self._report = lanes, report
        self._scorers = scorers
        self.failures: list[UserError] = []
        self._feeds: dict[tuple[Inputs, int | str, int], Feed] = {}
        self._compiled: dict[Inputs, dict[str, Program]] = {}
        self._served: dict[str, ServedReplicas] = {}

    def train_stack(self, jobs: list[_Job]) -> dict[ReplicaSpec, int]:
        """Trains and publishes jobs of one stack; returns the versions.

        Raises:
            UserError: none of the stack could be trained.
        """
        experiment, run = self._experiment, self._run
        arm_config = jobs[0].arm_config
        partners = [s for s in together(experiment, jobs[0].spec) if s not in {job.spec for job in jobs}]
        jobs = sorted(
            [*jobs, *(_job(experiment, run, s, self._manifest) for s in partners)],
            key=lambda job: job.spec.replica,
        )
        # Operations that wait for other machines must not keep the others from running.
        beside = 4 if arm_config.training.distribution == "multi_worker" else self._lanes
        threads.use(inside=arm_config.training.threads if self._lanes == 1 else 1, beside=beside)
        strategy = multi_worker.join(arm_config)
        report = self._report_of([job.spec for job in jobs])
        decision = None
        if arm_config.training.epochs == "auto":
            decision = decide(experiment, run, self._manifest, self._feed, report, self._steps, self._lanes)
            jobs = [replace(job, arm_config=_decided(job.arm_config, decision)) for job in jobs]
            arm_config = jobs[0].arm_config
        inputs = plan(arm_config, run)
        jobs, designs = self._designed(jobs, inputs)
        if not jobs:
            return {}
        feed = self._feed(arm_config, inputs)
        key = jobs[0].key if len(jobs) == 1 else fingerprint([job.key for job in jobs])
        checkpoint = checkpoints.path(jobs[0].base, key)
        checkpoints.sweep(jobs[0].base, keep=key)
        seeds = [job.spec.seeds for job in jobs]
        names = [f"replica {job.spec.arm}/{job.spec.replica}" for job in jobs]
        if strategy is not None:
            trained = multi_worker.train(
                strategy, designs[0], arm_config.training, feed, seeds[0], checkpoint, report, names[0]
            )
            if not multi_worker.is_chief(strategy):
                return {jobs[0].spec: multi_worker.published(jobs[0].base, jobs[0].key)}
            learned = split_towers(trained, 1)
        elif arm_config.mitigation is None:
            members = [
                Member(d, j.arm_config.training, j.spec.seeds, weights=_start(j, d, run))
                for d, j in zip(designs, jobs, strict=True)
            ]
            trainings = [member.training for member in members]
            programs = stack(members, self._lanes, self._steps(inputs))
            trained = train(programs, feed, trainings, seeds, checkpoint, report, names=names, partial=True)
            learned = split_towers(trained, len(jobs))
        else:
            learned = learn(
                experiment=arm_config,
                run=run,
                architecture=designs[0],
                rows=feed,
                replicas=seeds,
                lanes=self._lanes,
                checkpoint=checkpoint,
                report=report,
                names=names,
            )
        versions_of = {}
        for job, result, name in zip(jobs, learned, names, strict=True):
            try:
                if result.failure:
                    raise NotFiniteError(
                        name, result.failure, job.arm_config.training.optimizer.learning_rate
                    )
                write = partial(self._write, job, inputs, result, decision)
                versions_of[job.spec] = publish.publish(job.base, job.key, write)
            except NotFiniteError as error:
                self.failures.append(error)
                continue
            if self._scorers is not None:
                scorer = partial(self._served[job.spec.arm].score, result.components)
                self._scorers[job.base / str(versions_of[job.spec])] = scorer
        checkpoint.unlink(missing_ok=True)
        return versions_of

    def _designed(self, jobs: list[_Job], inputs: Inputs) -> tuple[list[_Job], list[Architecture]]:
        """The jobs whose models fit the inputs, and their architectures."""
        designs = []
        for job in list(jobs):
            try:
                designs.append(design(inputs, job.arm_config.model))
            except UserError as error:
                self.failures.append(error)
                jobs = [fitting for fitting in jobs if fitting is not job]
        return jobs, designs

    def _report_of(self, specs: Sequence[ReplicaSpec]) -> Callable[[Progress], None]:
        """Reports a stack's progress for each of its replicas, with the losses of its towers."""

        def report(progress: Progress) -> None:
            size, rest = divmod(len(progress.loss), len(specs))
            for i, spec in enumerate(specs):
                loss = progress.loss[i * size : (i + 1) * size] if size and not rest else progress.loss
                self._report(spec, replace(progress, loss=loss))

        return report

    def _feed(self, arm_config: Experiment, inputs: Inputs) -> Feed:
        training = arm_config.training
        key = inputs, training.shuffle_window, training.segment_rows
        if key not in self._feeds:
            self._feeds[key] = _feed(arm_config, self._run, inputs)
        return self._feeds[key]

    def _steps(self, inputs: Inputs) -> dict[str, Program]:
        """The compiled steps over the same inputs; see `ranker.training.step.stacking.stack`."""
        return self._compiled.setdefault(inputs, {})

    def _write(
        self,
        job: _Job,
        inputs: Inputs,
        learned: Learned,
        decision: EpochsDecision | None,
        directory: Path,
        version: int,
    ) -> dict[str, Any]:
        arm_config = job.arm_config
        identity = describe(arm_config, job.spec, inputs, self._manifest, version)
        if job.spec.arm not in self._served:
            self._served[job.spec.arm] = ServedReplicas(arm_config, self._run, inputs, learned)
        try:
            self._served[job.spec.arm].export(learned.components, identity, directory)
        except PredictionsError as error:
            name = f"replica {job.spec.arm}/{job.spec.replica}"
            raise NotFiniteError(name, str(error), arm_config.training.optimizer.learning_rate) from None
        return {
            **identity,
            "loss": learned.loss,
            "curve": learned.curve,
            "epochs": arm_config.training.epochs,
            "ended_by": _ended_by(arm_config.training, decision),
            "pilot": decision and asdict(decision),
            "steps": learned.steps,
            "seconds": round(learned.seconds, 3),
            "parameters": parameters(learned),
            "lookups": lookups(inputs, learned),
            "recipe": {
                "model": arm_config.model.model_dump(mode="json"),
                "training": arm_config.training.model_dump(mode="json"),
                "mitigation": arm_config.mitigation and arm_config.mitigation.model_dump(mode="json"),
            },
        }


def _start(job: _Job, architecture: Architecture, run: Path) -> Weights | None:
    """The weights that a replica with a warm start begins with."""
    start, spec = job.arm_config.training.warm_start, job.spec
    if start is None:
        return None
    version = earlier_version(run, start, spec.replica)
    return warm_weights(version, architecture, architecture.initialise(spec.seeds))


def _feed(arm_config: Experiment, run: Path, inputs: Inputs) -> Feed:
    rows = json.loads(layout.statistics_path(run).read_text(encoding="utf-8"))["rows"]
    weighted = arm_config.data.weight is not None
    return of_shards(layout.shard_paths(run, "train"), inputs, weighted, rows, arm_config.training)


def with_decided_epochs(experiment: Experiment, run: Path) -> Experiment:
    """The experiment with what its pilot has decided, or decides here; raises as `decide`."""
    manifest = read_manifest(run)
    decision = decide(experiment, run, manifest, lambda arm, inputs: _feed(arm, run, inputs))
    return _decided(experiment, decision)


def _decided(arm_config: Experiment, decision: EpochsDecision) -> Experiment:
    """The arm with what is `auto` as the pilot has decided it."""
    training = arm_config.training
    optimizer = training.optimizer
    if optimizer.initial_accumulator == "auto":
        optimizer = optimizer.model_copy(update={"initial_accumulator": decision.initial_accumulator})
    training = training.model_copy(update={"epochs": decision.epochs, "optimizer": optimizer})
    return arm_config.model_copy(update={"training": training})


def _ended_by(training: Training, decision: EpochsDecision | None) -> str:
    """In words for the report, how the number of epochs came about."""
    if decision is None:
        return f"training.epochs: {training.epochs}"
    return f"training.epochs: auto, {decision.epochs} for all replicas: {decision.reason}"


def describe(
    experiment: Experiment, spec: ReplicaSpec, inputs: Inputs, manifest: dict[str, Any], version: int
) -> dict[str, Any]:
    """Who a replica is, as its `describe` signature answers."""
    return {
        "experiment": experiment.name,
        "arm": spec.arm,
        "replica": spec.replica,
        "init_seed": spec.seeds.init,
        "shuffle_seed": spec.seeds.shuffle,
        "data": manifest["fingerprint"],
        "feature_spec": inputs.spec_hash,
        "vocabulary": inputs.vocabulary_hash,
        "encoding": inputs.encoding_hash,
        "fingerprint": content_key(experiment, spec, manifest),
        "version": version,
        "versions": versions(),
        # What a client needs to ask: who the candidates are, and what joins the items of a list.
        "item": experiment.item,
        "scale": inputs.target.scale,
        "multivalued": experiment.separators,
    }
