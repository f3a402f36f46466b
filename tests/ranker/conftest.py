"""A prepared run small enough for unit tests, written by hand, so that the model is tested without Beam."""

import json
from pathlib import Path

import numpy as np
import pytest

from ranker import layout
from ranker.config import Experiment, build

ROWS = 600


def tiny_tree() -> dict:
    return {
        "name": "tiny",
        "data": {
            "events": {"path": "events.csv"},
            "label": "clicked",
            "request": ["user"],
            "split": {"by": "hash", "of": "user"},
        },
        "features": {
            "user": {"kind": "categorical", "role": "context"},
            "age": {"kind": "numeric", "role": "context"},
            "item": {"kind": "categorical", "role": "item"},
            "tags": {"kind": "categorical", "role": "item", "multivalued": "|", "max_values": 3},
            "price": {"kind": "numeric", "role": "item", "transform": "buckets", "buckets": 4},
        },
        "model": {"embedding_dim": 4, "hidden": [8, 4]},
        "training": {"epochs": 1, "batch_size": 32, "shuffle_window": 64},
        "replicas": {"count": 2},
    }


def raw_rows(rows: int, seed: int = 0) -> dict[str, list]:
    """Random raw rows with missing and unknown values among them."""
    random = np.random.default_rng(seed)

    def choose(values):
        return [str(v) for v in random.choice(values, rows)]

    def numbers(values):
        return np.where(random.random(rows) < 0.1, np.nan, values).astype(np.float32)

    return {
        "user": choose(["u1", "u2", "u3", "stranger", ""]),
        "age": numbers(random.normal(40, 10, rows)),
        "item": choose(["a", "b", "c", "d", "new", ""]),
        "tags": choose(["x", "x|y", "y|z|x", "", "x||y", "nobody|x", "x|y|z|x|y"]),
        "price": numbers(random.exponential(10, rows)),
    }


def write_prepared(run: Path, rows: int = ROWS) -> Path:
    from ranker.backend import tf

    vocabularies = {"user": ["u1", "u2", "u3"], "item": ["a", "b", "c", "d"], "tags": ["x", "y", "z"]}
    layout.vocabulary_dir(run).mkdir(parents=True)
    for name, tokens in vocabularies.items():
        layout.vocabulary_path(run, name).write_text("".join(f"{t}\n" for t in tokens))
    numeric = {"mean": 40.0, "std": 10.0, "log1p_mean": 3.0, "log1p_std": 1.0, "quantiles": list(range(101))}
    features = {name: {"kind": "categorical"} for name in vocabularies} | {"age": numeric, "price": numeric}
    layout.statistics_path(run).write_text(json.dumps({"rows": rows, "features": features}))
    layout.manifest_path(run).write_text(json.dumps({"fingerprint": "tiny"}))
    raw = raw_rows(rows)
    affinity = {"a": 1.5, "b": 0.5, "c": -0.5, "d": -1.5}
    logit = np.array([affinity.get(i, 0.0) for i in raw["item"]]) * np.where(
        np.array(raw["user"]) == "u1", -1, 1
    )
    label = (np.random.default_rng(1).random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    layout.split_dir(run, "train").mkdir()
    with tf.io.TFRecordWriter(str(layout.split_dir(run, "train") / layout.shard_name(0, 1))) as writer:
        for start in range(0, rows, 256):
            feature = {layout.LABEL: _floats(label[start : start + 256])}
            for name, values in raw.items():
                part = values[start : start + 256]
                feature[name] = _floats(part) if isinstance(part, np.ndarray) else _texts(part)
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return run


def _floats(values):
    from ranker.backend import tf

    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _texts(values):
    from ranker.backend import tf

    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))


@pytest.fixture(scope="session")
def tiny() -> Experiment:
    return build(tiny_tree(), "tiny")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """A prepared run directory; tests do not write into it."""
    return write_prepared(tmp_path_factory.mktemp("prepared") / "run")


def export_weights(experiment, run, inputs, weights, identity, directory):
    """Writes the SavedModel of plain weights into a directory that does not exist."""
    from ranker.mitigation.learned import Learned
    from ranker.training.served import ServedReplicas

    learned = Learned([weights], loss=0.0, steps=0, seconds=0.0)
    ServedReplicas(experiment, run, inputs, learned).export([weights], identity, directory)
