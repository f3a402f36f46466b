"""When a pilot ends, and by which weights it is measured."""

import numpy as np
import pytest

from ranker.architecture import design
from ranker.config import Training, build
from ranker.inputs import plan
from ranker.training import early_stopping
from ranker.training.early_stopping import EarlyStopping, LastHalf, half_starts_after
from ranker.training.rows.examples import Examples
from ranker.training.step.averaging import coefficients
from tests.ranker.conftest import tiny_tree

AUTO = {"epochs": "auto", "batch_size": 64, "max_epochs": 6, "patience": 2}


def experiment(**changes):
    tree = tiny_tree() | {"training": AUTO, "arms": {"smelu": {}}, "replicas": {"count": 1}}
    tree["data"] = tree["data"] | {"split": {"by": "hash", "of": ["user", "item"]}}
    return build(tree | changes, "test")


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
    stopping = EarlyStopping(
        design(plan(own, prepared), own.model), [rows], np.zeros((1, 4), bool), own.training, 1, patience=1
    )
    epochs = iter([[0.4, 0.5, 0.3, 0.4], [0.999, 0.998, 0.9999, 0.2], [0.999, 0.998, 0.9999, 0.2]])
    monkeypatch.setattr(early_stopping, "predict", lambda *arguments: np.array(next(epochs), np.float32))
    goes_on = [_measured(stopping, 1), _measured(stopping, 1)]
    assert bool(stopping.aucs) == measures_auc
    assert goes_on == [[True], [measures_auc or stopping.best == 2]]
    if measures_auc:
        assert stopping.aucs == [[0.5], [0.75]]
        assert stopping.losses[1] > stopping.losses[0]
        assert stopping.best == 2
        assert _measured(stopping, 1) == [False]  # a tie is no rise


def _measured(stopping, models):
    stopping.measure([{}] * models, [{}] * models)
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
    stopping = EarlyStopping(design_of, [rows], np.zeros((1, 2), bool), own.training, 1, 3, patience=1)
    epochs = iter([[0.1, 0.9], [0.5, 0.5], [0.9, 0.1], [0.5, 0.5], [0.6, 0.5]])
    monkeypatch.setattr(early_stopping, "predict", lambda *arguments: np.array(next(epochs), np.float32))
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
    monkeypatch.setattr(early_stopping, "predict", lambda *arguments: np.array(next(answers), np.float32))
    design_of = design(plan(own, prepared), own.model)
    stopping = EarlyStopping(
        design_of, folds, np.eye(3, 4, dtype=bool), own.training, 1, patience=2, candidates=2
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
    again = EarlyStopping(
        design_of, folds, np.eye(3, 4, dtype=bool), own.training, 1, patience=2, candidates=2
    )
    again.restore(stopping.state())
    assert (again.active.tolist(), again.best, again.curves(1)) == ([False] * 6, 2, stopping.curves(1))


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 20])
def test_the_mean_over_the_last_half_is_that_of_the_iterates(epochs):
    """From updates and the corrections of an average over all steps, saved and restored after each epoch.

    Sums of up to 60 numbers of size 1 in float64: their rounding is far below the tolerance on any processor.
    """
    per_epoch = 3
    steps = 25 * per_epoch
    updates = np.random.default_rng(epochs).normal(size=(steps, 2, 4))
    iterates = 1.0 + np.cumsum(updates, axis=0)
    weigh = coefficients(Training(average_last=1.0), steps).astype(np.float64)[:, None, None]
    corrections = np.cumsum(weigh * updates, axis=0)
    half = LastHalf(steps, per_epoch)
    for epoch in range(1, epochs + 1):
        now = epoch * per_epoch - 1
        weights = [{"kernel": value} for value in iterates[now]]
        averages = [{"kernel": value} for value in iterates[now] - corrections[now]]
        means = half.means(epoch, weights, averages)
        assert len({key.split("/")[1] for key in half.state()}) <= 4
        resumed = LastHalf(steps, per_epoch)
        resumed.restore(half.state() | {"curve/epochs": np.zeros(1)})
        half = resumed
    start = half_starts_after(epochs)
    expected = (
        iterates[start * per_epoch : epochs * per_epoch].mean(axis=0) if start else iterates[per_epoch - 1]
    )
    # The coefficients are float32, of size 1: 6e-8 each, times 75 steps of the whole over 3 of a part.
    np.testing.assert_allclose([mean["kernel"] for mean in means], expected, atol=1e-4)
    assert not np.allclose(expected[0], expected[1], atol=1e-3)


def test_the_half_is_between_a_half_and_two_thirds():
    for epoch in range(4, 300):
        assert 0.5 <= 1 - half_starts_after(epoch) / epoch < 0.667
