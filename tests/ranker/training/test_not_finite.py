"""What is not finite stops its replica with one line, and is not published."""

import json
import math
import shutil

import numpy as np
import pytest

from ranker import layout
from ranker.architecture import design
from ranker.config import Optimizer, Training, build
from ranker.errors import UserError
from ranker.export import ServedRanker
from ranker.inputs import plan
from ranker.mitigation import learn
from ranker.seeds import derive
from ranker.training.replica import train_replica, train_replicas
from ranker.training.rows.examples import read
from ranker.training.specs import replica_specs
from ranker.training.step.finite import Health, NotFiniteError
from ranker.training.step.stacking import Member, stack
from ranker.training.trainer import train
from tests.ranker.conftest import tiny_tree

SGD = {"name": "sgd", "learning_rate": 1e30}
"""A rate with which every training leaves the finite numbers within a few steps."""


def experiment(**changes):
    tree = tiny_tree() | {"replicas": {"count": 1}, "arms": {"smelu": {}}}
    return build(tree | changes, "test")


@pytest.fixture
def run(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "run")


@pytest.fixture(scope="module")
def inputs(tiny, prepared):
    return plan(tiny, prepared)


@pytest.fixture(scope="module")
def examples(inputs, prepared):
    return read(layout.shard_paths(prepared, "train"), inputs, weighted=False)


def published(run, arm="smelu", replica=0):
    base = layout.replica_dir(run, arm, replica)
    return sorted(child.name for child in base.iterdir() if not child.name.startswith("."))


def test_a_diverging_rate_leaves_the_version_that_stands(run):
    good = experiment()
    (spec,) = replica_specs(good)
    assert train_replica(good, run, spec) == (1, False)
    bad = experiment(training={"epochs": 1, "batch_size": 32, "optimizer": SGD})
    with pytest.raises(UserError) as raised:
        train_replica(bad, run, spec)
    line = str(raised.value)
    assert line.startswith("replica smelu/0: the loss at step ")
    assert line.endswith("of 19 is not finite; lower training.optimizer.learning_rate. Received: 1e+30")
    assert "\n" not in line
    assert published(run) == ["1"]
    assert not list(layout.replica_dir(run, "smelu", 0).glob(".*"))


def test_of_a_stack_all_but_the_bad_one_are_published(run):
    bad = {"training.optimizer": SGD}
    both = experiment(arms={"smelu": {}, "bad": bad})
    with pytest.raises(UserError, match=r"^replica bad/0: the loss at step \d+ of 19 is not finite"):
        train_replicas(both, run, replica_specs(both))
    assert published(run) == ["1"]
    assert published(run, "bad") == []
    json.loads(
        (layout.version_dir(run, "smelu", 0, 1) / "training.json").read_text(), parse_constant=pytest.fail
    )


def test_weights_that_overflow_in_the_last_step_are_not_published(inputs, examples, tiny):
    architecture = design(inputs, tiny.model)
    training = Training(
        epochs=1, batch_size=600, average_last=0, optimizer=Optimizer(name="sgd", learning_rate=1e38)
    )
    seeds = derive(1, 0, [])
    program = stack([Member(architecture, training, seeds)])
    start = program.weights(None)[0]
    start["output/kernel"] = np.full_like(start["output/kernel"], 3e38)
    health = Health(["replica smelu/0"], [training], partial=False)
    health.check_weights(0, start, 1)
    start["output/kernel"][0] = math.inf
    with pytest.raises(NotFiniteError, match=r"weight output/kernel after step 1 is not finite; lower"):
        health.check_weights(0, start, 1)
    # One step, whose loss is finite and whose update is not.
    steep = training.model_copy(update={"optimizer": Optimizer(name="sgd", learning_rate=3e38, momentum=0.5)})
    with pytest.raises(NotFiniteError, match=r"^tower 0: weight .* after step 1 is not finite"):
        train(stack([Member(architecture, steep, seeds)]), _scaled(examples, 1e3), steep, [seeds])


def _scaled(examples, weight):
    """The rows with a sample weight that makes gradients large."""
    columns = {name: getattr(examples, name).numpy() for name in ("ids", "dense", "label", "weight")}
    columns["weight"] = columns["weight"] * np.float32(weight)
    return type(examples)(**columns)


@pytest.mark.parametrize("average", [{"average_last": 0.5}, {"average_last": 0, "ema": 0.9}])
def test_averages_are_checked_too(average, inputs, examples, tiny):
    training = Training(epochs=1, batch_size=100, **average)
    seeds = derive(1, 0, [])
    members = stack([Member(design(inputs, tiny.model), training, seeds)])
    members.programs[0]._dense.corrections[0].assign(
        np.full(members.programs[0]._dense.corrections[0].shape, np.inf)
    )
    with pytest.raises(NotFiniteError, match=r"^tower 0: weight .* is not finite"):
        train(members, examples, training, [seeds])


@pytest.mark.parametrize(
    ("mitigation", "line"),
    [
        ({"name": "codistillation"}, r"^first: the loss at step"),
        ({"name": "distillation", "components": 2}, r"^teacher \d of first: the loss at step"),
        ({"name": "anchor"}, r"^teacher 0 of all replicas \(the anchor\): the loss at step"),
    ],
)
def test_those_who_learn_from_it_stop_too(mitigation, line, prepared, inputs, examples):
    own = experiment(mitigation=mitigation, training={"epochs": 1, "batch_size": 100, "optimizer": SGD})
    seeds = [derive(1, i, ["shuffle"]) for i in range(2)]
    with pytest.raises(NotFiniteError, match=line):
        learn(own, prepared, design(inputs, own.model), examples, seeds, names=["first", "second"])


@pytest.mark.parametrize("name", ["ensemble", "self_ensemble"])
def test_a_bad_component_makes_its_replica_bad(name, prepared, inputs, examples):
    mitigation = {"name": name, "components": 2}
    own = experiment(mitigation=mitigation, training={"epochs": 1, "batch_size": 100, "optimizer": SGD})
    (learned,) = learn(own, prepared, design(inputs, own.model), examples, [derive(1, 0, [])])
    assert "is not finite" in learned.failure


@pytest.mark.parametrize("wrong", [math.nan, 1.5, -0.1])
def test_predictions_are_looked_at_before_publishing(wrong, run, monkeypatch):
    good = experiment()
    (spec,) = replica_specs(good)

    def score(self, columns):
        scores = np.full(len(next(iter(columns.values()))), 0.5, np.float32)
        scores[7] = wrong
        return scores

    monkeypatch.setattr(ServedRanker, "score", score)
    with pytest.raises(
        UserError, match=r"^replica smelu/0: 1 of its predictions on \d+ training rows are no"
    ):
        train_replica(good, run, spec)
    assert published(run) == []
