"""`training.epochs: auto`: one number of epochs for a run, from training rows that no report quotes."""

import json
import shutil

import numpy as np
import pytest

from ranker import layout
from ranker.architecture import design
from ranker.config import Training, build
from ranker.errors import UserError
from ranker.inputs import plan
from ranker.training import pilot, replica
from ranker.training.replica import train_replicas, with_decided_epochs
from ranker.training.rows.examples import Examples
from ranker.training.rows.feed import Stream
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
    best = first + np.argmax(decision["auc"][first - 1 :])
    assert smelu["epochs"] == relu["epochs"] == decision["epochs"] == best
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


def test_held_out_rows_are_a_hash_of_places_or_of_whole_requests(prepared, tiny, monkeypatch):
    by_row = experiment()
    first = pilot.hold_out(by_row, prepared, 10_000)
    np.testing.assert_array_equal(first, pilot.hold_out(by_row, prepared, 10_000))
    # 10,000 draws with probability 0.1: five standard deviations are 0.015.
    assert first.shape == (4, 10_000)
    np.testing.assert_allclose(first.mean(axis=1), 0.1, atol=0.015)
    assert first.sum(axis=0).max() == 1
    assert first[:, :300].any(axis=1).all()
    assert first[:, -300:].any(axis=1).all()
    assert [len(pilot.hold_out(by_row, prepared, rows)) for rows in (15_000, 25_000, 40_000)] == [3, 2, 1]
    split = {"by": "hash", "of": "user"}
    users = experiment(data=by_row.model_dump(mode="json")["data"] | {"split": split}).data
    assert pilot.holds_out_requests(users.split, users.request, prepared)
    assert not pilot.holds_out_requests(by_row.data.split, by_row.data.request, prepared)
    by_column = {"by": "column", "of": "part", "train": ["train"], "eval": ["eval"]}
    columns = experiment(data=by_row.model_dump(mode="json")["data"] | {"split": by_column}).data
    requests = {"train": np.array([1, 1, 2, 3]), "eval": np.array([4, 4, 3])}
    monkeypatch.setattr(pilot, "request_hashes", lambda run, split: requests[split])
    assert pilot.holds_out_requests(columns.split, columns.request, prepared)
    requests["eval"] = np.array([1, 2, 4])
    assert not pilot.holds_out_requests(columns.split, columns.request, prepared)
    with pytest.raises(UserError, match=r"'auto' needs more than the 1 training rows"):
        pilot.hold_out(by_row, prepared, 1)


def test_held_out_rows_take_no_part():
    """With every row of a batch held out, a step changes nothing; its loss is 0, not a number divided by 0."""
    rows = Examples(
        ids=np.zeros((4, 1), np.int32),
        dense=np.zeros((4, 0), np.float32),
        label=np.ones(4, np.float32),
        weight=np.ones(4, np.float32),
    )
    taken = rows.take(np.array([-1, -1, 2, -1]))
    assert taken["share"].numpy().tolist() == [0, 0, 1, 0]
    assert rows.take(np.array([-1, -1]))["share"].numpy().tolist() == [0, 0]


@pytest.mark.parametrize(
    ("labels", "weights", "changes", "measures_auc"),
    [
        ([0, 1, 1, 0], [1, 1, 1, 1], {}, True),
        ([0, 1, 1, 0], [1, 1, 1, 1], {"validation_measure": "loss"}, False),
        ([0, 0.5, 1, 0], [1, 1, 1, 1], {}, False),
        ([0, 0.5, 0.5, 0], [1, 1, 1, 1], {}, False),
        ([1, 1, 1, 1], [1, 1, 1, 1], {}, False),
        ([0, 1, 1, 1], [0, 1, 1, 1], {}, False),
    ],
)
def test_auc_decides_where_there_is_one(prepared, monkeypatch, labels, weights, changes, measures_auc):
    """Scores that become surer and better ordered: the loss rises while the AUC does."""
    own = experiment(training=AUTO | changes | {"patience": 1})
    rows = Examples(
        ids=np.zeros((4, 1), np.int32),
        dense=np.zeros((4, 0), np.float32),
        label=np.array(labels, np.float32),
        weight=np.array(weights, np.float32),
    )
    stopping = pilot.EarlyStopping(
        design(plan(own, prepared), own.model), [rows], np.zeros((1, 4), bool), own.training, patience=1
    )
    epochs = iter([[0.4, 0.5, 0.3, 0.4], [0.999, 0.998, 0.9999, 0.2], [0.999, 0.998, 0.9999, 0.2]])
    monkeypatch.setattr(pilot, "predict", lambda *arguments: np.array(next(epochs), np.float32))
    goes_on = [_measured(stopping, 1), _measured(stopping, 1)]
    assert bool(stopping.aucs) == measures_auc
    assert goes_on == [[True], [measures_auc or stopping.best == 2]]
    if measures_auc:
        assert stopping.aucs == [[0.5], [0.75]]
        assert stopping.losses[1] > stopping.losses[0]
        assert stopping.best == 2
        assert _measured(stopping, 1) == [False]  # a tie is no rise


def _measured(stopping, models):
    stopping.measure([{}] * models)
    return stopping.active.tolist()


def test_no_epoch_before_the_first_one_is_chosen(prepared, monkeypatch):
    own = experiment(training=AUTO | {"patience": 1})
    rows = Examples(
        ids=np.zeros((2, 1), np.int32),
        dense=np.zeros((2, 0), np.float32),
        label=np.array([0, 1], np.float32),
        weight=np.ones(2, np.float32),
    )
    design_of = design(plan(own, prepared), own.model)
    stopping = pilot.EarlyStopping(design_of, [rows], np.zeros((1, 2), bool), own.training, 3, patience=1)
    epochs = iter([[0.1, 0.9], [0.5, 0.5], [0.9, 0.1], [0.5, 0.5], [0.6, 0.5]])
    monkeypatch.setattr(pilot, "predict", lambda *arguments: np.array(next(epochs), np.float32))
    assert [(_measured(stopping, 1), stopping.best) for _ in range(5)] == [
        ([True], 1),
        ([True], 2),
        ([True], 3),
        ([True], 4),
        ([False], 4),
    ]


def test_the_best_pair_of_candidate_and_epoch_is_chosen_by_the_mean_over_folds(prepared, monkeypatch):
    """Two candidates of two folds each; a fold with one class has no AUC of its own and takes no part in the mean."""
    own = experiment(training=AUTO)
    folds = [
        Examples(
            ids=np.zeros((2, 1), np.int32),
            dense=np.zeros((2, 0), np.float32),
            label=np.array(labels, np.float32),
            weight=np.ones(2, np.float32),
        )
        for labels in ([0, 1], [1, 0], [1, 1])
    ]
    right, wrong, tie = [0.1, 0.9], [0.9, 0.1], [0.5, 0.5]
    answers = iter(
        [
            *(tie, tie, tie, right, tie, tie),  # AUC by candidate: 0.5, then (1 + 0.5) / 2
            *(right, wrong, tie, right, tie, tie),  # 1, then 0.75
            *(wrong, right, tie, wrong, wrong, tie),  # 0, then 0.5
        ]
    )
    monkeypatch.setattr(pilot, "predict", lambda *arguments: np.array(next(answers), np.float32))
    design_of = design(plan(own, prepared), own.model)
    stopping = pilot.EarlyStopping(
        design_of, folds, np.eye(3, 4, dtype=bool), own.training, patience=2, candidates=2
    )
    assert stopping.held_out.shape == (6, 4)
    # The second candidate ends by itself: its first epoch stays its best.
    assert [_measured(stopping, 6) for _ in range(3)] == [[True] * 6, [True] * 6, [True] * 3 + [False] * 3]
    assert stopping.aucs == [[0.5, 0.75], [1.0, 0.75], [0.0, 0.5]]
    assert (stopping.best, stopping.best_candidate) == (2, 0)
    answers = iter([tie, tie, tie])
    assert _measured(stopping, 6) == [False] * 6
    assert next(answers, None) is None  # no model of the second candidate was asked
    losses, aucs = stopping.curves(0)
    assert (len(losses), aucs) == (4, [0.5, 1.0, 0.0, 0.5])
    assert stopping.curves(1)[1] == [0.75, 0.75, 0.5]
    again = pilot.EarlyStopping(
        design_of, folds, np.eye(3, 4, dtype=bool), own.training, patience=2, candidates=2
    )
    again.restore(stopping.state())
    assert (again.active.tolist(), again.best, again.curves(1)) == ([False] * 6, 2, stopping.curves(1))


@pytest.mark.parametrize(
    ("best", "training", "epochs"),
    [
        (9, {"average_last": 0.0}, 9),
        (9, {"average_last": 0.1}, 9),
        (9, {"average_last": 0.5}, 12),  # averaged over epochs 7 to 12, with 9 in the middle
        (9, {"average_last": 1.0}, 18),
        (9, {"average_last": 1.0, "max_epochs": 15}, 15),
        (9, {"average_last": 0.5, "ema": 0.9}, 9),
    ],
)
def test_the_average_of_the_weights_lies_about_the_best_epoch(best, training, epochs):
    assert pilot._averaged_about(best, Training(**training)) == epochs


def test_held_out_rows_from_memory_are_those_of_the_shards(prepared):
    """The second reading, for columns that a served model does not have, gives the same rows where there are none."""
    own = experiment(training=AUTO)
    inputs = plan(own, prepared)
    assert all(column.is_served for column in inputs.stored)
    memory = replica._feed(own, prepared, inputs)
    held_out = np.random.default_rng(0).random((2, memory.rows)) < 0.3
    fast = pilot._rows(prepared, own, inputs, held_out, memory)
    slow = pilot._rows(prepared, own, inputs, held_out, Stream(lambda: iter(()), memory.rows, 256))
    for first, second in zip(fast, slow, strict=True):
        for column in ("ids", "dense", "label", "weight"):
            np.testing.assert_array_equal(getattr(first, column), getattr(second, column))


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
