"""The baseline: it must be at its optimum, or beating it would say nothing."""

import numpy as np
import pytest
from scipy.optimize import minimize

from pipelines.evaluate.baseline import fit, take_rows


@pytest.fixture
def rows():
    """Two single-valued columns, one multi-valued of width 3, two dense columns of very different units."""
    random = np.random.default_rng(0)
    count = 3000
    multi = random.integers(1, 6, (count, 3)) * (random.random((count, 3)) < [0.9, 0.4, 0.1])
    ids = np.column_stack([random.integers(0, 4, count), random.integers(0, 40, count), multi]).astype(
        np.int32
    )
    dense = np.column_stack([random.normal(0, 1, count), random.normal(5, 2000, count)]).astype(np.float32)
    linear = (
        np.array([0, 1, -1, 0.5])[ids[:, 0]]
        + 0.3 * (ids[:, 2] == 2)
        + 0.5 * dense[:, 0]
        - 0.0002 * dense[:, 1]
    )
    label = (random.random(count) < 1 / (1 + np.exp(-linear))).astype(np.float32)
    weight = random.integers(1, 4, count).astype(np.float32)
    return [4, 40, 6, 0, 0], ids, dense, label, weight


def test_finds_the_optimum_that_a_reference_optimiser_finds(rows):
    _, ids, dense, label, weight = rows
    one_hot = np.zeros((len(ids), 50))
    for column, offset in enumerate([0, 4, 44, 44, 44]):
        there = ids[:, column] > 0
        np.add.at(one_hot, (np.flatnonzero(there), offset + ids[there, column]), 1)
    scale = dense.std(axis=0)
    design = np.column_stack([one_hot, dense / scale, np.ones(len(ids))])

    def objective(theta):
        linear = design @ theta
        loss = weight @ (np.logaddexp(0, linear) - label * linear) + theta[:-1] @ theta[:-1] / 2
        gradient = design.T @ (weight * (1 / (1 + np.exp(-linear)) - label))
        gradient[:-1] += theta[:-1]
        return loss, gradient

    best = minimize(
        objective, np.zeros(53), jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15}
    )
    expected = 1 / (1 + np.exp(-design @ best.x))
    model = fit(*rows)
    theta = np.concatenate([model.coefficients, model.dense * scale, [model.intercept]])
    assert objective(theta)[0] <= best.fun * (1 + 1e-6)
    np.testing.assert_allclose(model.predict(ids, dense), expected, atol=5e-3)
    assert model.rows == 3000


def test_missing_and_padding_say_nothing(rows):
    model = fit(*rows)
    assert model.offsets.tolist() == [0, 4, 44, 44, 44]
    assert np.all(model.coefficients[[0, 4, 44]] == 0)
    nothing = model.predict(np.zeros((1, 5), np.int32), np.zeros((1, 2), np.float32))
    assert nothing[0] == pytest.approx(1 / (1 + np.exp(-model.intercept)), abs=1e-6)


def test_works_without_ids_or_without_numbers(rows):
    sizes, ids, dense, label, weight = rows
    none = np.zeros((len(label), 0))
    assert fit([], none.astype(np.int32), dense, label, weight).coefficients.shape == (0,)
    assert fit(sizes, ids, none.astype(np.float32), label, weight).dense.shape == (0,)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_has_no_model(rows, label):
    sizes, ids, dense, _, weight = rows
    assert fit(sizes, ids, dense, np.full(len(ids), label, np.float32), weight) is None


def test_a_sample_takes_the_same_number_from_every_shard():
    shards = [[{"label": np.full(10, shard)} for _ in range(100)] for shard in range(3)]
    taken = take_rows(shards, 75)["label"]
    assert np.bincount(taken).tolist() == [25, 25, 25]
    assert take_rows([[], []], 75) == {}
