"""Numbers as piecewise linear functions of themselves."""

import numpy as np
import pytest

from ranker.architecture import design
from ranker.backend import tf
from ranker.config import Model, Numeric
from ranker.inputs import Column, Inputs, _numeric
from ranker.model import RankingModel
from ranker.pieces import LIMIT, expand
from ranker.seeds import Seeds
from ranker.training.step.forward import Forward


def statistics(values):
    values = np.asarray(values, np.float64)
    logs = np.sign(values) * np.log1p(np.abs(values))
    return {
        "mean": values.mean(),
        "std": values.std(),
        "log1p_mean": logs.mean(),
        "log1p_std": logs.std(),
        "quantiles": np.percentile(values, np.arange(101)).tolist(),
    }


def column(values, **settings):
    feature = Numeric(kind="numeric", role="item", **settings)
    return _numeric(None, "x", feature, statistics(values))


def inputs(*columns: Column) -> Inputs:
    return Inputs(columns, (), "", "", "")


def dense_of(column_, values):
    values = np.asarray(values, np.float64)
    missing = ~np.isfinite(values)
    if column_.feature.transform == "log1p":
        values = np.sign(values) * np.log1p(np.abs(values))
    return np.stack([np.where(missing, 0, (values - column_.mean) / column_.std), missing], 1).astype(
        np.float32
    )


def test_edges_lie_among_the_distinct_quantiles():
    """Percentiles of a number that is nearly always 0 have two edges; data of an earlier version have no more."""
    of_zeros = statistics(np.append(np.zeros(999), 100.0)) | {"distinct_quantiles": [0.0, 10.0, 20.0, 100.0]}
    feature = Numeric(kind="numeric", role="item", transform="none", pieces=16)
    assert _numeric(None, "x", feature, of_zeros).edges == (0.0, 10.0, 20.0, 100.0)
    del of_zeros["distinct_quantiles"]
    assert len(_numeric(None, "x", feature, of_zeros).edges) <= 3


LOG = np.random.default_rng(0).lognormal(0, 2, 10_000)


@pytest.mark.parametrize("transform", ["standardize", "log1p", "none"])
def test_a_share_is_how_far_a_number_has_come_between_two_quantiles(transform):
    it = column(LOG, transform=transform, pieces=4)
    quartiles = np.percentile(LOG, [0, 25, 50, 75, 100])
    scale = np.log1p if transform == "log1p" else lambda x: x
    middle = np.exp((np.log1p(quartiles[1]) + np.log1p(quartiles[2])) / 2) - 1
    halfway = middle if transform == "log1p" else (quartiles[1] + quartiles[2]) / 2
    rows = [quartiles[0] - 1, quartiles[1], halfway, quartiles[3], quartiles[4] * 2, np.nan]
    expanded = expand(inputs(it), tf.constant(dense_of(it, rows))).numpy()
    assert expanded.shape == (6, 2 + 4) == (6, inputs(it).expanded_width)
    # float32 of numbers up to 2e4 deviations wide: a millionth of the widest share.
    shares = expanded[:, 2:] + np.where(np.isnan(rows)[:, None], 0, it.share_means)
    expected = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0.5, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    np.testing.assert_allclose(shares, expected, atol=1e-3)
    value = np.clip((scale(np.array(rows[1:5])) - it.mean) / it.std, -LIMIT, LIMIT)
    np.testing.assert_allclose(expanded[1:5, 0], value, rtol=1e-5, atol=1e-6)
    assert expanded[:, 1].tolist() == [0, 0, 0, 0, 0, 1]


def test_the_shares_of_the_training_rows_have_mean_0():
    it = column(LOG, transform="log1p", pieces=10)
    shares = expand(inputs(it), tf.constant(dense_of(it, LOG))).numpy()[:, 2:]
    # The mean is taken over 101 quantiles, of 10,000 rows.
    np.testing.assert_allclose(shares.mean(axis=0), 0, atol=0.01)


@pytest.mark.parametrize(
    ("values", "shares"),
    [
        ([0.0] * 60 + [1.0] * 41, 1),
        ([7.0] * 50, 0),
        ([1] * 30 + [2] * 40 + [3] * 31, 2),
        ([-1e30] * 50 + [1e30] * 51, 1),
    ],
)
def test_equal_quantiles_are_one(values, shares):
    it = column(values, pieces=16)
    assert len(it.share_means) == shares
    assert np.isfinite(expand(inputs(it), tf.constant(dense_of(it, [*values, 1e38, -1e38]))).numpy()).all()


def test_a_column_without_a_value_has_no_shares():
    feature = Numeric(kind="numeric", role="item", pieces=4)
    nothing = {"mean": 0.0, "std": 0.0, "quantiles": []}
    assert _numeric(None, "x", feature, nothing).share_means == ()


def test_without_pieces_nothing_changes():
    it = column(LOG)
    dense = tf.constant(dense_of(it, [1e6, np.nan]))
    assert expand(inputs(it), dense) is dense


@pytest.mark.parametrize("interaction", ["concat", "cross", "dot"])
def test_training_and_serving_see_the_same_shares(interaction):
    """Numbers with and without shares side by side, through the served model and through the program that trains."""
    columns = [column(LOG, pieces=3), column(LOG), column(LOG, transform="log1p", pieces=5)]
    size = {"width": 1, "size": 5, "embedding_dim": 4}
    plan = Inputs((Column("a", columns[0].feature, **size), *columns), (), "", "", "")
    tower = (4,) if interaction == "dot" else ()
    model = Model(embedding_dim=4, hidden=(8,), interaction=interaction, dense_hidden=tower)
    architecture = design(plan, model)
    weights = architecture.initialise(Seeds(1, 2))
    random = np.random.default_rng(3)
    dense = np.concatenate([dense_of(c, random.choice(LOG, 50)) for c in columns], axis=1)
    ids = random.integers(0, 5, (50, 1)).astype(np.int32)
    served = RankingModel(architecture)
    served.assign(weights)
    forward = Forward(architecture)
    stacked = {name: tf.constant(value[None]) for name, value in weights.items()}
    vectors = {"a": tf.gather(stacked["embedding/a"], ids, axis=1)}
    logits = forward(stacked, forward.pool(vectors, ids[None]), tf.constant(dense[None]))
    expected = served.logits({"ids": tf.constant(ids), "dense": tf.constant(dense)})[:, 0]
    # Sums of at most 30 products of numbers below 3: float32 keeps them within 1e-5 in any order.
    np.testing.assert_allclose(logits[0], expected, atol=1e-5)


def test_buckets_have_no_pieces():
    with pytest.raises(ValueError, match=r"pieces must be 0 where transform is buckets. Received: 4"):
        Numeric(kind="numeric", role="item", transform="buckets", pieces=4)
