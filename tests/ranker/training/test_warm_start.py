"""A refresh that goes on where an earlier replica ended."""

import json
import shutil

import numpy as np
import pytest

from ranker import layout
from ranker.architecture import design
from ranker.config import build
from ranker.errors import UserError
from ranker.inputs import plan
from ranker.seeds import Seeds
from ranker.training.replica import train_replicas
from ranker.training.specs import replica_specs
from ranker.training.warm_start import earlier_version, warm_weights
from tests.ranker.conftest import tiny_tree

pytestmark = pytest.mark.timeout(600)  # Replicas are trained.


def experiment(**training):
    settings = {"epochs": 1, "batch_size": 64, **training}
    return build(
        tiny_tree() | {"training": settings, "arms": {"smelu": {}}, "replicas": {"count": 2}}, "test"
    )


@pytest.fixture(scope="module")
def first(prepared, tmp_path_factory):
    run = shutil.copytree(prepared, tmp_path_factory.mktemp("warm") / "first")
    train_replicas(experiment(), run, replica_specs(experiment()))
    return run


def weights_of(run, replica, initial=None):
    architecture = design(plan(experiment(), run), experiment().model)
    version = earlier_version(run, "replicas/smelu/{replica}", replica)
    return warm_weights(version, architecture, initial or architecture.initialise(Seeds(7, 7)))


def test_a_replica_starts_from_the_one_with_its_number(first, prepared, tmp_path):
    """With a learning rate of next to nothing it ends where it started."""
    second = shutil.copytree(prepared, tmp_path / "second")
    it = experiment(
        warm_start=f"{first}/replicas/smelu/{{replica}}", optimizer={"learning_rate": 1e-30}, average_last=0
    )
    train_replicas(it, second, replica_specs(it))
    for replica in range(2):
        before, after = weights_of(first, replica), weights_of(second, replica)
        assert before.keys() == after.keys()
        for name, value in before.items():
            np.testing.assert_array_equal(after[name], value, err_msg=name)
    assert (weights_of(first, 0)["hidden/0/kernel"] != weights_of(first, 1)["hidden/0/kernel"]).any()


def test_the_start_belongs_to_what_a_replica_is_made_from(first, prepared, tmp_path):
    second = shutil.copytree(prepared, tmp_path / "second")
    keys = []
    for settings in ({}, {"warm_start": f"{first}/replicas/smelu/0"}):
        it = experiment(**settings)
        train_replicas(it, second, replica_specs(it))
        version = layout.newest_version(layout.replica_dir(second, "smelu", 1))
        text = (layout.version_dir(second, "smelu", 1, version) / "training.json").read_text()
        keys.append(json.loads(text)["key"])
    assert keys[0] != keys[1]


def test_ids_are_joined_by_their_text(first, tmp_path):
    """A vocabulary in another order, without one id and with two new ones."""
    second = shutil.copytree(first, tmp_path / "second")
    path = layout.vocabulary_path(second, "user")
    old = path.read_text().splitlines()
    new = ["new-a", *old[:0:-1], "new-b"]
    path.write_text("\n".join(new) + "\n")
    architecture = design(plan(experiment(), second), experiment().model)
    initial = architecture.initialise(Seeds(7, 7))
    version = earlier_version(first, "replicas/smelu/0", 0)
    before = weights_of(first, 0)["embedding/user"]
    after = warm_weights(version, architecture, initial)["embedding/user"]
    assert len(after) == len(before) + 1
    np.testing.assert_array_equal(after[0], before[0])  # missing
    np.testing.assert_array_equal(after[-1], before[-1])  # unknown
    for row, token in enumerate(new, 1):
        expected = (
            initial["embedding/user"][row] if token.startswith("new-") else before[1 + old.index(token)]
        )
        np.testing.assert_array_equal(after[row], expected, err_msg=token)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (
            "nowhere",
            r"training.warm_start: must be a SavedModel or hold versions of one; train it first. Received: .*nowhere",
        ),
        ("data", r"must be a SavedModel or hold versions of one"),
        ("empty", r"training.warm_start: must be an exported replica. Received: .*empty"),
    ],
)
def test_a_start_that_is_none(first, tmp_path, start, message):
    run = shutil.copytree(first, tmp_path / "run")
    (run / "empty").mkdir()
    (run / "empty" / "saved_model.pb").touch()
    it = experiment(warm_start=start)
    with pytest.raises(UserError, match=message):
        train_replicas(it, run, replica_specs(it))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"hidden": [5]}, r"whose hidden/0/kernel has the shape \[\d+, \d+\] instead of \[\d+, 5\]"),
        ({"interaction": "cross"}, r"which has no weight cross/0/kernel"),
    ],
)
def test_another_model_is_said(first, model, message):
    it = experiment()
    architecture = design(plan(it, first), it.model.model_copy(update=model))
    version = earlier_version(first, "replicas/smelu/0", 0)
    with pytest.raises(UserError, match=message):
        warm_weights(version, architecture, architecture.initialise(Seeds(1, 1)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"warm_start": "x"}}, "epochs must be a number where warm_start is set"),
        (
            {"training": {"warm_start": "x", "epochs": 1, "distribution": "multi_worker"}},
            "distribution must be none where warm_start is set",
        ),
        (
            {"training": {"warm_start": "x", "epochs": 1}, "mitigation": {"name": "ensemble"}},
            "training.warm_start: must not be set where there is a mitigation. Received: ensemble",
        ),
    ],
)
def test_what_a_warm_start_does_not_go_with(changes, message):
    with pytest.raises(UserError, match=message):
        build(tiny_tree() | changes, "test")
