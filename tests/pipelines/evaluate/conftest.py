"""A run with an eval split and published replicas, made without Beam and without training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ranker import layout
from ranker.config import Experiment, build
from tests.ranker.conftest import export_weights

NASTY = '<b onmouseover="x">&amp;$1$</b>'
ITEMS = ["a", "b", "c", "d", NASTY, "", *[f"new-{i}" for i in range(9)]]


def tree(**changes) -> dict:
    return {
        "name": "small",
        "data": {
            "events": {"path": "events.csv"},
            "label": "clicked",
            "request": ["user"],
            "item": "item",
            "split": {"by": "hash", "of": "user"},
        },
        "features": {
            "user": {"kind": "categorical", "role": "context"},
            "age": {"kind": "numeric", "role": "context"},
            "item": {"kind": "categorical", "role": "item"},
            "tags": {"kind": "categorical", "role": "item", "multivalued": "|", "max_values": 3},
            "price": {"kind": "numeric", "role": "item", "transform": "buckets", "buckets": 4},
        },
        "model": {"embedding_dim": 4, "embedding_stddev": 1.0, "hidden": [8, 4]},
        # A fixed number: with "auto" a replica's key depends on the first arm, which some tests leave out.
        "training": {"epochs": 1},
        "replicas": {"count": 2, "vary": ["init"]},
        "arms": {"smelu": {}, "relu": {"model.activation": {"name": "relu"}}},
        **changes,
    }


def eval_rows(requests: int, seed: int) -> dict[str, list]:
    """Whole requests of 1 to 12 distinct items; every tenth request shows its first item again."""
    random = np.random.default_rng(seed)
    rows: dict[str, list] = {
        name: [] for name in ("request", "user", "age", "item", "tags", "price", "label")
    }
    for index in range(requests):
        items = random.permutation(ITEMS)[: random.integers(1, 13)].tolist()
        items += items[:1] if index % 10 == 0 else []
        size = len(items)
        rows["request"] += [f"q{seed}-{index:04d}"] * size
        rows["user"] += [["u1", "u2", "u3", "stranger", ""][index % 5]] * size
        rows["age"] += [float("nan") if index % 7 == 0 else 20.0 + index % 50] * size
        rows["item"] += items
        rows["tags"] += random.choice(["x", "x|y", "y|z|x", "", "x||y"], size).tolist()
        rows["price"] += random.exponential(10, size).tolist()
        rows["label"] += (random.random(size) < 0.4).astype(float).tolist()
    return rows


def write_shard(path: Path, rows: dict[str, list], weighted: bool = False) -> None:
    from ranker.backend import tf

    columns = {**rows, layout.LABEL: rows["label"], layout.REQUEST: rows["request"]}
    if weighted:
        columns[layout.WEIGHT] = [1.0 + i % 3 for i in range(len(rows["label"]))]
    del columns["label"], columns["request"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for start in range(0, len(rows["label"]), layout.BLOCK_ROWS):
            feature = {}
            for name, values in columns.items():
                part = values[start : start + layout.BLOCK_ROWS]
                if isinstance(part[0], str):
                    text = tf.train.BytesList(value=[value.encode() for value in part])
                    feature[name] = tf.train.Feature(bytes_list=text)
                else:
                    feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=part))
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def write_prepared(run: Path, weighted: bool = False) -> None:
    """Two shards of eval rows (one of two blocks) and one without any, and a training shard."""
    vocabularies = {"user": ["u1", "u2", "u3"], "item": ["a", "b", "c", "d", NASTY], "tags": ["x", "y", "z"]}
    layout.vocabulary_dir(run).mkdir(parents=True)
    for name, tokens in vocabularies.items():
        layout.vocabulary_path(run, name).write_text("".join(f"{token}\n" for token in tokens))
    numeric = {"mean": 40.0, "std": 10.0, "log1p_mean": 3.0, "log1p_std": 1.0, "quantiles": list(range(101))}
    features = {name: {"kind": "categorical"} for name in vocabularies} | {"age": numeric, "price": numeric}
    layout.statistics_path(run).write_text(json.dumps({"rows": 600, "features": features}))
    layout.manifest_path(run).write_text(json.dumps({"fingerprint": "small", "counts": {"train": 600}}))
    shards = [eval_rows(220, 1), eval_rows(0, 2), eval_rows(60, 3)]
    for index, rows in enumerate(shards):
        write_shard(layout.split_dir(run, "eval") / layout.shard_name(index, 3), rows, weighted)
    write_shard(layout.split_dir(run, "train") / layout.shard_name(0, 1), eval_rows(100, 4), weighted)


def publish_replicas(experiment: Experiment, run: Path) -> None:
    """Replicas as training publishes them, but with their initial weights."""
    from ranker.architecture import design
    from ranker.inputs import plan
    from ranker.training.publish import publish
    from ranker.training.replica import describe
    from ranker.training.specs import content_key, read_manifest, replica_specs

    manifest = read_manifest(run)
    for spec in replica_specs(experiment):
        own, key = experiment.arm(spec.arm), content_key(experiment, spec, manifest)
        inputs = plan(own, run)
        weights = design(inputs, own.model).initialise(spec.seeds)

        def write(directory, version, own=own, spec=spec, inputs=inputs, weights=weights):
            identity = describe(own, spec, inputs, manifest, version)
            export_weights(own, run, inputs, weights, identity, directory)
            return identity

        publish(layout.replica_dir(run, spec.arm, spec.replica), key, write)


@pytest.fixture(scope="session")
def small() -> Experiment:
    return build(tree(), "small")


@pytest.fixture(scope="session")
def published(tmp_path_factory, small) -> Path:
    """A run after training; tests do not write into it."""
    run = tmp_path_factory.mktemp("published") / "run"
    write_prepared(run)
    publish_replicas(small, run)
    return run


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory, small, published):
    """A run after evaluation with one worker, and its report; tests do not write into it."""
    from pipelines.evaluate import evaluate
    from pipelines.record import save_record

    run = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(published, run)
    lines: list[str] = []
    save_record(run, "train", 130.0, {"trained": 4})
    save_record(run, "prepare", 1.5, {"rows": 600})
    report = evaluate(small, run, progress=lambda line, *_, **__: lines.append(line))
    return run, report, lines


@pytest.fixture
def run(tmp_path, published) -> Path:
    """A copy of the run after training, to break."""
    shutil.copytree(published, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def predictions():
    """A function that makes a table of predictions: two arms of three replicas, whose noise differs."""

    def make(requests: int, seed: int = 0) -> pa.Table:
        random = np.random.default_rng(seed)
        rows = eval_rows(requests, seed)
        truth = random.normal(0, 1, len(rows["label"]))
        columns = {"request": rows["request"], "item": rows["item"]}
        columns["label"] = (random.random(len(truth)) < 1 / (1 + np.exp(-truth))).astype(np.float32)
        for arm, noise in (("smelu", 0.1), ("relu", 0.3)):
            for replica in range(3):
                logit = truth + random.normal(0, noise, len(truth))
                columns[f"{arm}/{replica}"] = (1 / (1 + np.exp(-logit))).astype(np.float32)
        return pa.table(columns)

    return make
