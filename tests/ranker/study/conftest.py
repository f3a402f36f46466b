"""A prepared run with held-out requests, and an experiment that trains on it in a second."""

import numpy as np
import pytest

from ranker import layout
from ranker.config import build
from ranker.study.options import StudyOptions
from tests.ranker.conftest import raw_rows, tiny_tree, write_prepared

REQUESTS, CANDIDATES = 24, 10


@pytest.fixture(scope="session")
def study_run(tmp_path_factory):
    from ranker.backend import tf

    run = write_prepared(tmp_path_factory.mktemp("study") / "run")
    raw = raw_rows(REQUESTS * CANDIDATES, seed=5)
    raw["item"] = [f"i{i % CANDIDATES}" if i % 3 else "abcd"[i % 4] for i in range(REQUESTS * CANDIDATES)]
    label = np.random.default_rng(2).integers(0, 2, REQUESTS * CANDIDATES)
    request = np.repeat([f"r{i}" for i in range(REQUESTS)], CANDIDATES)
    feature = {
        layout.LABEL: tf.train.Feature(float_list=tf.train.FloatList(value=label)),
        layout.REQUEST: texts(request),
    }
    for name, values in raw.items():
        floats = isinstance(values, np.ndarray)
        feature[name] = (
            tf.train.Feature(float_list=tf.train.FloatList(value=values)) if floats else texts(values)
        )
    layout.split_dir(run, "eval").mkdir()
    with tf.io.TFRecordWriter(str(layout.split_dir(run, "eval") / layout.shard_name(0, 1))) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return run


def texts(values):
    from ranker.backend import tf

    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[str(v).encode() for v in values]))


@pytest.fixture(scope="session")
def study_experiment():
    tree = tiny_tree()
    tree["model"] |= {"embedding_stddev": 0.3}
    tree["training"] |= {"batch_size": 60}
    return build(tree | {"arms": {"smelu": {}, "relu": {"model.activation": {"name": "relu"}}}}, "study")


@pytest.fixture(scope="session")
def quick(tmp_path_factory):
    return StudyOptions(replicas=3, quick=True, cache=tmp_path_factory.mktemp("points"))
