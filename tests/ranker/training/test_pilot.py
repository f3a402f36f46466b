"""`training.epochs: auto`: one number of epochs for a run, from training rows that no report quotes."""

import json
import shutil

import numpy as np
import pytest

from ranker import layout
from ranker.config import Training, build
from ranker.training import pilot
from ranker.training.early_stopping import half_starts_after
from ranker.training.replica import train_replicas, with_decided_epochs
from ranker.training.specs import content_key, pilot_arm, pilot_key, read_manifest, replica_specs
from tests.ranker.conftest import ROWS, tiny_tree

pytestmark = pytest.mark.timeout(900)  # The first test trains a pilot and three replicas.

AUTO = {"epochs": "auto", "batch_size": 64, "max_epochs": 6, "patience": 2}
ARMS = {"smelu": {}, "relu": {"model.activation": {"name": "relu"}}, "fixed": {"training.epochs": 2}}


def experiment(**changes):
    tree = tiny_tree() | {"training": AUTO, "arms": ARMS, "replicas": {"count": 1}}
    tree["data"] = tree["data"] | {"split": {"by": "hash", "of": ["user", "item"]}}
    return build(tree | changes, "test")


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    run = shutil.copytree(prepared, tmp_path_factory.mktemp("pilot") / "run")
    train_replicas(experiment(), run, replica_specs(experiment()))
    return run


def training_of(run, arm):
    return json.loads((layout.version_dir(run, arm, 0, 1) / "training.json").read_text())


def test_all_replicas_of_all_arms_train_as_long_as_the_pilot_says(run):
    smelu, relu, fixed = (training_of(run, arm) for arm in ARMS)
    decision = smelu["pilot"]
    first = -(-50 // -(-ROWS // 64))  # the first epoch that ends after 50 steps
    best = first + int(np.argmax(decision["auc"][first - 1 :]))
    assert f"after epoch {best} of" in decision["reason"]
    middle = (half_starts_after(best) + best) / 2
    # A replica's average over the last tenth has its middle there.
    assert smelu["epochs"] == relu["epochs"] == decision["epochs"] == round(middle / 0.95)
    assert smelu["steps"] == relu["steps"] == decision["epochs"] * -(-ROWS // 64)
    assert relu["pilot"] == decision
    assert smelu["ended_by"].startswith(f"training.epochs: auto, {decision['epochs']} for all replicas")
    assert len(smelu["curve"]) == smelu["epochs"]
    assert len(decision["training"]) == len(decision["validation"]) == len(decision["auc"]) <= 6
    assert 0.2 * ROWS < decision["rows"] < 0.6 * ROWS  # four pilots, a tenth each
    assert decision["initial_accumulator"] in (0.1, 0.0001)
    assert f"of 4 pilots on {decision['rows']:,} held-out training rows" in decision["reason"]
    assert (fixed["epochs"], fixed["pilot"], fixed["ended_by"]) == (2, None, "training.epochs: 2")


def test_a_decision_is_made_once(run, monkeypatch):
    monkeypatch.setattr(pilot, "_train_pilot", None)
    decided = with_decided_epochs(experiment(), run)
    assert decided.training.epochs == training_of(run, "smelu")["epochs"]
    assert not [path.name for path in layout.replicas_dir(run).glob(".checkpoint*")]


def test_a_killed_pilot_resumes_to_the_same_decision(run, tmp_path, monkeypatch):
    again = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("replicas"))
    monkeypatch.setattr("ranker.training.trainer._STEPS_A_CALL", 3)
    monkeypatch.setattr("ranker.training.trainer._REPORT_SECONDS", 0.0)
    tree = experiment().model_dump(mode="json")
    tree["training"]["checkpoint_minutes"] = 1e-9
    own = build(tree, "test")

    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.step >= 17:
            raise KilledError

    manifest = read_manifest(again)
    feed = lambda arm, inputs: pilot_feed(arm, again, inputs)  # noqa: E731
    with pytest.raises(KilledError):
        pilot.decide(own, again, manifest, feed, kill)
    assert list(layout.replicas_dir(again).glob(".checkpoint-*.npz"))
    steps = []
    decision = pilot.decide(own, again, manifest, feed, lambda progress: steps.append(progress.step))
    assert steps[0] > 3
    first = training_of(run, "smelu")["pilot"]
    assert (decision.validation, decision.auc) == (first["validation"], first["auc"])


def pilot_feed(arm, run, inputs):
    from ranker.training.rows.feed import of_shards

    return of_shards(layout.shard_paths(run, "train"), inputs, False, ROWS, arm.training)


@pytest.mark.parametrize(
    ("middle", "training", "epochs"),
    [
        (9, {"average_last": 0.0}, 9),
        (9, {"average_last": 0.1}, 9),
        (9, {"average_last": 0.5}, 12),  # averaged over epochs 7 to 12, with 9 in the middle
        (9, {"average_last": 1.0}, 18),
        (9, {"average_last": 1.0, "max_epochs": 15}, 15),
        (9, {"average_last": 0.5, "ema": 0.9}, 9),
        (0.5, {"average_last": 0.0}, 1),
    ],
)
def test_the_served_average_has_its_middle_where_the_best_one_has_it(middle, training, epochs):
    assert pilot._averaged_about(middle, Training(**training)) == epochs


@pytest.mark.parametrize(
    ("optimizer", "rows", "tried"),
    [
        ({}, 50_000, (0.1, 0.0001)),
        ({}, 50_001, (0.1,)),
        ({"initial_accumulator": 0.02}, 100, (0.02,)),
        ({"name": "adam"}, 100, (0.1,)),
    ],
)
def test_accumulators_are_tried_on_few_rows(optimizer, rows, tried):
    assert pilot._accumulators(Training(optimizer=optimizer).optimizer, rows) == tried


def test_the_accumulator_of_the_pilot_is_what_replicas_train_with(prepared, tmp_path, monkeypatch):
    """The other value gives other weights, a number in the configuration the same as the pilot's choice of it."""
    monkeypatch.setattr(pilot, "_ACCUMULATORS", (0.3,))
    own = experiment(arms={"smelu": {}})
    chosen = shutil.copytree(prepared, tmp_path / "chosen")
    train_replicas(own, chosen, replica_specs(own))
    epochs = training_of(chosen, "smelu")["epochs"]
    weights = {}
    for accumulator in (0.3, 0.0001):
        run = shutil.copytree(prepared, tmp_path / str(accumulator))
        fixed = experiment(
            arms={"smelu": {}},
            training=AUTO | {"epochs": epochs, "optimizer": {"initial_accumulator": accumulator}},
        )
        train_replicas(fixed, run, replica_specs(fixed))
        weights[accumulator] = _variables(run)
    assert _variables(chosen) == weights[0.3]
    assert weights[0.3] != weights[0.0001]


def _variables(run):
    (path,) = (layout.version_dir(run, "smelu", 0, 1) / "variables").glob("*.data*")
    return path.read_bytes()


def test_what_the_pilot_depends_on_is_in_the_keys(run):
    manifest = read_manifest(run)
    spec = replica_specs(experiment())[1]

    def keys(**changes):
        own = experiment(**changes)
        return pilot_key(own, manifest), content_key(own, spec, manifest)

    before = keys()
    assert keys() == before
    # The deployed arm decides for the others; a number of epochs needs no pilot.
    deployed = keys(arms=ARMS | {"smelu": {"model.hidden": [8]}})
    assert deployed[0] != before[0]
    assert deployed[1] != before[1]
    other = keys(arms=ARMS | {"fixed": {"training.epochs": 3}})
    assert other == before
    number = AUTO | {"epochs": 3}
    assert keys(training=number)[1] == keys(training=number | {"patience": 9})[1]
    assert keys(training=AUTO | {"patience": 9})[1] != before[1]


@pytest.mark.parametrize(
    "arms",
    [{"wide": {"model.hidden": [16]}, **ARMS}, {"relu": ARMS["relu"], **ARMS}],
    ids=["an arm before the others", "another order"],
)
def test_what_is_trained_outlives_another_first_arm(run, arms):
    manifest, now = read_manifest(run), experiment(arms=arms)
    pilot = pilot_arm(now, manifest, run)
    assert pilot_key(now, manifest, pilot) == pilot_key(experiment(), manifest)
    for spec in replica_specs(experiment()):
        key = content_key(now, spec, manifest, pilot)
        assert key == training_of(run, spec.arm)["key"]
        assert key == content_key(experiment(), spec, manifest)


def test_a_pilot_whose_arm_is_gone_decides_nothing(run):
    manifest, now = read_manifest(run), experiment(arms={"relu": ARMS["relu"]})
    assert pilot_arm(now, manifest, run) == "relu"
    assert content_key(now, replica_specs(now)[0], manifest) != training_of(run, "relu")["key"]


def test_several_workers_need_a_number():
    with pytest.raises(ValueError, match=r"epochs must be a number where distribution is 'multi_worker'"):
        Training(distribution="multi_worker")
