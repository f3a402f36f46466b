"""Mitigated and stacked replicas as exports: ordinary to whoever serves them."""

import json
import shutil

import numpy as np
import pytest

from ranker import layout
from ranker.backend import tf
from ranker.config import build
from ranker.inputs import plan
from ranker.training.replica import train_replica, train_replicas
from ranker.training.specs import replica_specs
from tests.ranker.conftest import raw_rows, tiny_tree

ARMS = {
    "plain": {},
    "relu": {"model.activation": {"name": "relu"}},
    "self": {"mitigation": {"name": "self_ensemble", "components": 2}},
    "together": {"mitigation": {"name": "codistillation"}},
    "anchored": {"mitigation": {"name": "anchor", "replica": "replicas/plain/0/1"}},
}


@pytest.fixture(scope="module")
def experiment():
    return build(tiny_tree() | {"arms": ARMS, "training": {"epochs": 1, "batch_size": 150}}, "test")


@pytest.fixture(scope="module")
def run(experiment, prepared, tmp_path_factory):
    run = tmp_path_factory.mktemp("mitigated") / "run"
    shutil.copytree(prepared, run)
    specs = replica_specs(experiment)
    stacked = [s for s in specs if (s.arm, s.replica) in (("plain", 0), ("relu", 1))]
    assert train_replicas(experiment, run, stacked, lanes=2) == [(1, False)] * 2
    for spec in specs:
        if spec.arm in ("self", "anchored") and spec.replica == 0:
            assert train_replica(experiment, run, spec) == (1, False)
    together = [s for s in specs if s.arm == "together"]
    assert train_replica(experiment, run, together[0]) == (1, False)
    return run


def served(run, arm, replica=0):
    return tf.saved_model.load(str(layout.version_dir(run, arm, replica, 1)))


def tensors(raw):
    return {n: tf.constant(v, tf.float32 if isinstance(v, np.ndarray) else tf.string) for n, v in raw.items()}


@pytest.mark.parametrize("arm", ARMS)
def test_exports_the_four_signatures(arm, run):
    model = served(run, arm, replica=1 if arm == "relu" else 0)
    assert set(model.signatures) == {"serving_default", "rank", "regress", "describe"}
    score = model.signatures["serving_default"](**tensors(raw_rows(3)))["score"].numpy()
    assert score.shape == (3, 1)
    assert np.all((score > 0) & (score < 1))


def test_replicas_learn_together_and_are_all_published(experiment, run):
    specs = [s for s in replica_specs(experiment) if s.arm == "together"]
    assert train_replica(experiment, run, specs[1]) == (1, True)


def test_stacked_replicas_have_the_bytes_they_have_alone(experiment, run, prepared, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(prepared, alone)
    spec = next(s for s in replica_specs(experiment) if (s.arm, s.replica) == ("relu", 1))
    train_replica(experiment, alone, spec)
    raw = tensors(raw_rows(50))
    scores = [
        served(r, "relu", 1).signatures["serving_default"](**raw)["score"].numpy() for r in (run, alone)
    ]
    assert scores[0].tobytes() == scores[1].tobytes()


def test_costs_stand_beside_the_model(experiment, run):
    def told(arm):
        return json.loads((layout.version_dir(run, arm, 0, 1) / "training.json").read_text())

    inputs = plan(experiment.arm("plain"), run)
    assert told("plain")["lookups"] == told("self")["lookups"] == inputs.id_width
    assert told("plain")["parameters"] < told("self")["parameters"] < 2 * told("plain")["parameters"]
    assert told("self")["recipe"]["mitigation"]["name"] == "self_ensemble"
