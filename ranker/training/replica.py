"""From a prepared run to one published replica: what each training process does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ranker import layout
from ranker.architecture import Weights, design
from ranker.backend import tf
from ranker.config import Experiment
from ranker.errors import UserError
from ranker.export import ServedRanker, save, versions
from ranker.features import FeatureEncoder
from ranker.inputs import Inputs, plan
from ranker.model import RankingModel
from ranker.seeds import ReplicaSpec
from ranker.training import checkpoint as checkpoints
from ranker.training import publish
from ranker.training.examples import parse_block
from ranker.training.feed import of_shards
from ranker.training.leftovers import sweep
from ranker.training.program import Program
from ranker.training.specs import content_key, read_manifest
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
        spec: the replica.
        report: called about once a second.

    Returns:
        The version, and whether it was there already.

    Raises:
        UserError: the run is not prepared, or the model does not fit its inputs.
    """
    manifest = read_manifest(run)
    key = content_key(experiment, spec, manifest)
    base = layout.replica_dir(run, spec.arm, spec.replica)
    base.mkdir(parents=True, exist_ok=True)
    sweep(base)
    checkpoints.sweep(base, keep=key)
    version = publish.finished(base, key)
    if version is not None:
        return version, True
    own = experiment.arm(spec.arm)
    tf.config.threading.set_intra_op_parallelism_threads(own.training.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    inputs = plan(own, run)
    architecture = design(inputs, own.model)
    rows = json.loads(layout.statistics_path(run).read_text(encoding="utf-8"))["rows"]
    weighted = own.data.weight is not None
    feed = of_shards(layout.shard_paths(run, "train"), inputs, weighted, rows, own.training)
    averaging = own.training.average_last > 0 or own.training.ema > 0
    program = Program(architecture, own.training, [architecture.initialise(spec.seeds)], averaging=averaging)
    checkpoint = checkpoints.path(base, key)
    trained = train(program, feed, own.training, [spec.seeds], checkpoint, report)

    def write(directory: Path, version: int) -> dict[str, Any]:
        identity = describe(own, spec, inputs, manifest, version)
        export_replica(own, run, inputs, trained.weights[0], identity, directory)
        return {
            **identity,
            "loss": trained.loss[0],
            "steps": trained.steps,
            "seconds": round(trained.seconds, 3),
            "parameters": int(sum(weight.size for weight in trained.weights[0].values())),
            "recipe": {
                "model": own.model.model_dump(mode="json"),
                "training": own.training.model_dump(mode="json"),
            },
        }

    version = publish.publish(base, key, write)
    checkpoint.unlink(missing_ok=True)
    return version, False


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
        "vocabulary": inputs.vocabulary_hash,
        "feature_spec": inputs.spec_hash,
        "version": version,
        "versions": versions(),
    }


def export_replica(
    experiment: Experiment,
    run: Path,
    inputs: Inputs,
    weights: Weights,
    identity: dict[str, Any],
    directory: Path,
) -> None:
    """Writes a replica's SavedModel into `directory`, which must not exist."""
    model = RankingModel(design(inputs, experiment.model))
    model.assign(weights)
    served = ServedRanker(model, FeatureEncoder(inputs), experiment.item, identity)
    save(served, directory, first_rows(run, served.encoder, rows=8), identity)


def first_rows(run: Path, encoder: FeatureEncoder, rows: int) -> dict[str, list]:
    """The first raw rows of the training split by feature, for warm-up."""
    parse = parse_block(encoder, weighted=False)
    for record in tf.data.TFRecordDataset([str(p) for p in layout.shard_paths(run, "train")]).take(1):
        block = parse(record)
        return {name: block[name][:rows].numpy().tolist() for name in encoder.raw_signature()}
    raise UserError(f"{layout.split_dir(run, 'train')}: no examples; run `ranker prepare` first")
