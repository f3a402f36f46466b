"""The pairwise and the listwise loss: their values, and the way of a model that learns by them."""

import itertools

import numpy as np
import pytest

from ranker.backend import tf
from ranker.config import Training, build
from ranker.errors import UserError
from ranker.inputs import TrainingTarget
from ranker.training.rows.feed import of_shards
from ranker.training.rows.order import request_order
from ranker.training.step.objective import (
    cross_entropy,
    held_out_loss,
    objective_of,
    pairwise_logistic,
    softmax_cross_entropy,
    squared_error,
)
from tests.pipelines.prepare.small_log import read_rows
from tests.shapes.conftest import tree

TARGET = TrainingTarget()


def rows_of(label, request, weight=None, padding=0):
    """One tower's batch, with places that hold no row at its end."""
    label = np.append(np.array(label, np.float32), [label[0]] * padding)
    request = np.append(np.array(request, np.int32), [request[0]] * padding)
    is_row = np.arange(len(label)) < len(label) - padding
    weight = np.ones(len(label)) if weight is None else np.append(weight, [9] * padding)
    columns = {"label": label, "request": request, "weight": weight, "share": is_row / is_row.sum()}
    return {
        name: tf.constant(np.asarray(values)[np.newaxis], tf.int32 if name == "request" else tf.float32)
        for name, values in columns.items()
    }


def value(objective, logits, rows, padding=0):
    logits = tf.constant([[*logits, *[5.0] * padding]], tf.float32)
    return float(objective(logits, rows)[0])


@pytest.mark.parametrize("padding", [0, 3])
def test_values_of_tf_rankings_documentation(padding):
    """`PairwiseLogisticLoss()([[1., 0.]], [[0.6, 0.8]])` is 0.39906943, `SoftmaxLoss()` is 0.7981389."""
    rows = rows_of([1, 0], [4, 4], padding=padding)
    assert value(pairwise_logistic, [0.6, 0.8], rows, padding) == pytest.approx(0.39906943, abs=1e-6)
    assert value(softmax_cross_entropy, [0.6, 0.8], rows, padding) == pytest.approx(0.7981389, abs=1e-6)


@pytest.mark.parametrize("padding", [0, 2])
def test_against_sums_over_requests(padding):
    random = np.random.default_rng(1)
    label, logits = random.integers(0, 4, 12), random.normal(size=12)
    request, weight = np.repeat([3, 1, 7], [5, 1, 6]), random.random(12)
    rows = rows_of(label, request, weight, padding)
    pairs = lists = 0.0
    for group in (3, 1, 7):
        members = np.flatnonzero(request == group)
        for i, j in itertools.product(members, members):
            pairs += weight[i] * np.log1p(np.exp(logits[j] - logits[i])) * (label[i] > label[j])
        log_softmax = logits[members] - np.log(np.exp(logits[members]).sum())
        lists -= (weight[members] * label[members] * log_softmax).sum()
    assert value(pairwise_logistic, logits, rows, padding) == pytest.approx(pairs / 12, rel=1e-5)
    assert value(softmax_cross_entropy, logits, rows, padding) == pytest.approx(lists / 3, rel=1e-5)
    score = 1 / (1 + np.exp(-logits))
    listwise = held_out_loss(Training(loss="listwise"), TARGET, label, weight, score, request)
    assert listwise == pytest.approx(lists / 3, rel=1e-5)
    worse = held_out_loss(
        Training(loss="pairwise"), TARGET, label, weight, np.where(label > 1, 0.1, 0.9), request
    )
    better = held_out_loss(
        Training(loss="pairwise"), TARGET, label, weight, np.where(label > 1, 0.9, 0.1), request
    )
    assert better < worse


def test_a_batch_without_rows_has_no_loss_and_no_gradient():
    rows = rows_of([1, 0], [4, 4])
    rows["share"] = tf.zeros([1, 2])
    logits = tf.Variable([[0.6, 0.8]])
    for objective in (pairwise_logistic, softmax_cross_entropy):
        with tf.GradientTape() as tape:
            loss = objective(logits, rows)
        assert float(loss[0]) == 0
        np.testing.assert_array_equal(tape.gradient(loss, logits), [[0, 0]])


@pytest.mark.parametrize("window", [1, 7, 40, "full"])
def test_requests_are_shuffled_whole(window):
    request = np.repeat(np.random.default_rng(0).permutation(30), np.arange(30) % 5 + 1)
    order = request_order(request, window, np.random.default_rng(2))
    assert sorted(order) == list(range(len(request)))
    shuffled = request[order]
    assert 1 + (shuffled[1:] != shuffled[:-1]).sum() == 30
    if window == 1:
        assert order.tolist() == list(range(len(request)))
    elif window != "full":
        assert np.abs(order - np.arange(len(order))).max() <= window + 5
    assert len(request_order(request[:0], window, np.random.default_rng(2))) == 0


@pytest.fixture(scope="module")
def worked(work):
    return work(
        data__grade="rating",
        training__loss="pairwise",
        training__epochs="auto",
        training__max_epochs=4,
        arms={"smelu": {}, "listwise": {"training.loss": "listwise"}},
    )


def test_the_rows_of_a_request_stand_together(worked):
    requests = [row["__request__"] for row in read_rows(worked.run, "train")]
    assert 1 + sum(a != b for a, b in itertools.pairwise(requests)) == len(set(requests)) > 100
    assert sorted(set(requests)) != list(dict.fromkeys(requests))


def test_every_loss_learns_to_rank(worked):
    for arm in ("smelu", "listwise"):
        quality = worked.report["arms"][arm]["quality"]
        assert quality["ndcg@10"]["mean"] > 0.8, arm
        assert quality["gauc"]["mean"] > 0.7, arm
    rows = {"user": ["u1"] * 2, "age": [21.0] * 2, "doc": ["d1", "d11"], "topic": ["t1", "t3"]}
    low, high = worked.scores({**rows, "price": [1.0, 11.0]})
    assert low < high


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training__loss": "pairwise", "data__request": None}, "data.request is not set"),
        ({"training__loss": "triplet"}, "training.loss"),
        (
            {"training__loss": "listwise", "mitigation": {"name": "distillation"}},
            "mitigation: distillation mixes labels",
        ),
        (
            {"training__loss": "pairwise", "training__distribution": "multi_worker"},
            "loss must be pointwise where distribution",
        ),
        ({"training__loss": "pairwise", "training__batch_size": 5000}, "batch_size must be at most 4096"),
        (
            {"arms": {"a": {}, "b": {"training.loss": "pairwise"}}, "data__request": None},
            "arms.b: .*data.request is not set",
        ),
    ],
)
def test_wrong_combinations_are_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        build(tree(**changes), "test")
    assert "\n" not in str(error.value)


def test_rows_in_segments_are_refused():
    training = Training(loss="pairwise", segment_rows=10)
    with pytest.raises(UserError, match="segment_rows must be at least the 20 training rows"):
        of_shards([], None, False, 20, training)


def test_each_loss_has_its_objective():
    assert objective_of(Training(), TARGET) is cross_entropy
    assert objective_of(Training(loss="pairwise"), TARGET) is pairwise_logistic
    assert objective_of(Training(loss="listwise"), TARGET) is softmax_cross_entropy
    assert objective_of(Training(), TrainingTarget(is_value=True)) is squared_error
