"""From a prepared run to published replicas: what each training process does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ranker import layout
from ranker.architecture import Weights, design
from ranker.backend import tf
from ranker.config import Categorical, Experiment, Training, fingerprint
from ranker.errors import UserError
from ranker.export import ServedRanker, save, versions
from ranker.features import FeatureEncoder
from ranker.files import sweep
from ranker.inputs import Inputs, plan
from ranker.mitigation.combined import Combined, served_model
from ranker.mitigation.cost import lookups, parameters
from ranker.mitigation.learned import Learned, split_towers
from ranker.mitigation.recipes import learn
from ranker.model import RankingModel
from ranker.seeds import ReplicaSpec
from ranker.training import checkpoint as checkpoints
from ranker.training import multi_worker, publish, threads
from ranker.training.examples import parse_block
from ranker.training.feed import Feed, of_shards
from ranker.training.finite import NotFiniteError
from ranker.training.pilot import EpochsDecision, decide
from ranker.training.specs import content_key, read_manifest, together
from ranker.training.stacking import Member, stack
from ranker.training.trainer import Progress, train


def train_replica(
    experiment: Experiment,
    run: Path,
    spec: ReplicaSpec,
    report: Callable[[Progress], None] = lambda progress: None,
) -> tuple[int, bool]:
    """Trains and publishes one replica, unless it is there already.

    Args:
        experiment: the whole configuration.
        run: the run directory, after `prepare`.
        spec: the replica. With co-distillation all of its arm are trained and published.
        report: called about once a second.

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
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[tuple[int, bool]]:
    """Trains and publishes replicas, stacked: those of one arm, and of arms of equal features, epochs and batches.

    Each has the bytes it would have from `train_replica`.

    Args:
        experiment: the whole configuration.
        run: the run directory, after `prepare`.
        specs: the replicas.
        lanes: how many train at a time, each on a thread; the rows are in memory once for all.
        report: called about once a second.

    Returns:
        For each its version, and whether it was there already.

    Raises:
        UserError: as `train_replica`. Of replicas stacked with one that is not finite all others are published.
    """
    manifest = read_manifest(run)
    jobs = {spec: _job(experiment, run, spec, manifest) for spec in specs}
    stacks: dict[str, list[_Job]] = {}
    for job in jobs.values():
        if job.existing_version is None:
            stacks.setdefault(job.stack, []).append(job)
    done: dict[ReplicaSpec, int] = {}
    failures: list[NotFiniteError] = []
    for stacked in stacks.values():
        done |= _train_stack(experiment, run, stacked, manifest, lanes, report, failures)
    if failures:
        raise failures[0]
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
    key = content_key(experiment, spec, manifest)
    base = layout.replica_dir(run, spec.arm, spec.replica)
    base.mkdir(parents=True, exist_ok=True)
    sweep(base)
    arm_config = experiment.arm(spec.arm)
    features = {name: feature.model_dump(mode="json") for name, feature in arm_config.features.items()}
    shared_settings = [features, arm_config.training.epochs, arm_config.training.batch_size]
    alone = None if arm_config.mitigation is None else spec.arm
    if arm_config.training.distribution == "multi_worker":
        alone = spec.name
    return _Job(spec, arm_config, key, base, publish.finished(base, key), fingerprint(shared_settings, alone))


def _train_stack(
    experiment: Experiment,
    run: Path,
    jobs: list[_Job],
    manifest: dict[str, Any],
    lanes: int,
    report: Callable[[Progress], None],
    failures: list[NotFiniteError],
) -> dict[ReplicaSpec, int]:
    """Trains and publishes jobs of one stack; returns the versions, and adds to `failures` what is not finite."""
    arm_config = jobs[0].arm_config
    partners = [s for s in together(experiment, jobs[0].spec) if s not in {job.spec for job in jobs}]
    jobs = sorted(
        [*jobs, *(_job(experiment, run, s, manifest) for s in partners)], key=lambda job: job.spec.replica
    )
    # Operations that wait for other machines must not keep the others from running.
    beside = 4 if arm_config.training.distribution == "multi_worker" else lanes
    threads.use(inside=arm_config.training.threads if lanes == 1 else 1, beside=beside)
    strategy = multi_worker.join(arm_config)
    decision = None
    if arm_config.training.epochs == "auto":
        decision = decide(experiment, run, manifest, lambda arm, inputs: _feed(arm, run, inputs), report)
        jobs = [replace(job, arm_config=_with_epochs(job.arm_config, decision.epochs)) for job in jobs]
        arm_config = jobs[0].arm_config
    inputs = plan(arm_config, run)
    feed = _feed(arm_config, run, inputs)
    key = jobs[0].key if len(jobs) == 1 else fingerprint([job.key for job in jobs])
    checkpoint = checkpoints.path(jobs[0].base, key)
    checkpoints.sweep(jobs[0].base, keep=key)
    designs = [design(inputs, job.arm_config.model) for job in jobs]
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
        members = [Member(d, j.arm_config.training, j.spec.seeds) for d, j in zip(designs, jobs, strict=True)]
        trainings = [member.training for member in members]
        trained = train(
            stack(members, lanes), feed, trainings, seeds, checkpoint, report, names=names, partial=True
        )
        learned = split_towers(trained, len(jobs))
    else:
        learned = learn(arm_config, run, designs[0], feed, seeds, lanes, checkpoint, report, names)
    versions_of = {}
    for job, result, name in zip(jobs, learned, names, strict=True):
        try:
            if result.failure:
                raise NotFiniteError(name, result.failure, job.arm_config.training.optimizer.learning_rate)
            write = partial(_write, run, job, inputs, result, manifest, decision)
            versions_of[job.spec] = publish.publish(job.base, job.key, write)
        except NotFiniteError as error:
            failures.append(error)
    checkpoint.unlink(missing_ok=True)
    return versions_of


def _feed(arm_config: Experiment, run: Path, inputs: Inputs) -> Feed:
    rows = json.loads(layout.statistics_path(run).read_text(encoding="utf-8"))["rows"]
    weighted = arm_config.data.weight is not None
    return of_shards(layout.shard_paths(run, "train"), inputs, weighted, rows, arm_config.training)


def with_decided_epochs(experiment: Experiment, run: Path) -> Experiment:
    """The experiment with the number of epochs that its pilot has decided, or decides here; raises as `decide`."""
    manifest = read_manifest(run)
    decision = decide(experiment, run, manifest, lambda arm, inputs: _feed(arm, run, inputs))
    return _with_epochs(experiment, decision.epochs)


def _with_epochs(arm_config: Experiment, epochs: int) -> Experiment:
    return arm_config.model_copy(
        update={"training": arm_config.training.model_copy(update={"epochs": epochs})}
    )


def _write(
    run: Path,
    job: _Job,
    inputs: Inputs,
    learned: Learned,
    manifest: dict[str, Any],
    decision: EpochsDecision | None,
    directory: Path,
    version: int,
) -> dict[str, Any]:
    arm_config, identity = job.arm_config, describe(job.arm_config, job.spec, inputs, manifest, version)
    model = served_model(design(inputs, arm_config.model), learned.components, learned.shared)
    try:
        export_model(arm_config, run, inputs, model, identity, directory)
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
        "multivalued": {
            name: feature.multivalued
            for name, feature in experiment.features.items()
            if isinstance(feature, Categorical) and feature.multivalued
        },
    }


def export_replica(
    experiment: Experiment,
    run: Path,
    inputs: Inputs,
    weights: Weights,
    identity: dict[str, Any],
    directory: Path,
) -> None:
    """Writes the SavedModel of plain weights into `directory`, which must not exist."""
    model = served_model(design(inputs, experiment.model), [weights], shared=False)
    export_model(experiment, run, inputs, model, identity, directory)


def export_model(
    experiment: Experiment,
    run: Path,
    inputs: Inputs,
    model: RankingModel | Combined,
    identity: dict[str, Any],
    directory: Path,
) -> None:
    """Writes a replica's SavedModel into `directory`, which must not exist."""
    served = ServedRanker(model, FeatureEncoder(inputs), experiment.item, identity)
    rows = first_rows(run, served.encoder, rows=layout.BLOCK_ROWS)
    check_predictions(served, rows)
    save(served, directory, {name: values[:8] for name, values in rows.items()}, identity)


class PredictionsError(ValueError):
    """Predictions that are no probabilities."""


def check_predictions(served: ServedRanker, rows: dict[str, list]) -> None:
    """Scores some raw rows as a client would.

    Raises:
        PredictionsError: a score is not finite, or not in [0, 1].
    """
    columns = {
        name: tf.constant(rows[name], spec.dtype) for name, spec in served.encoder.raw_signature().items()
    }
    scores = served.score(columns)
    wrong = ~((scores >= 0) & (scores <= 1))
    if wrong.any():
        raise PredictionsError(
            f"{wrong.sum()} of its predictions on {len(scores)} training rows are no numbers in [0, 1]"
        )


def first_rows(run: Path, encoder: FeatureEncoder, rows: int) -> dict[str, list]:
    """The first raw rows of the training split by feature, for warm-up."""
    parse = parse_block(encoder, weighted=False)
    for record in tf.data.TFRecordDataset([str(p) for p in layout.shard_paths(run, "train")]).take(1):
        block = parse(record)
        return {name: block[name][:rows].numpy().tolist() for name in encoder.raw_signature()}
    raise UserError(f"{layout.split_dir(run, 'train')}: no examples; run `ranker prepare` first")
