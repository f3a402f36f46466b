"""Quality measures against plain Python, and what has no answer."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.divergence import auc, calibration, ece, gauc, logloss, ndcg, ranking_loss
from ranker.divergence.pair_losses import logistic_loss_sum
from ranker.divergence.quality import auc_components
from ranker.errors import UserError


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    request = rng.integers(0, 40, 600)
    p = np.round(rng.random(600), 2)  # ties
    labels = (rng.random(600) < p * 0.6).astype(float)
    return labels, p, request


def pairwise_auc(y, p):
    pairs = [(a, b) for a, y1 in zip(p, y, strict=True) if y1 for b, y2 in zip(p, y, strict=True) if not y2]
    return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs) if pairs else math.nan


def groups(*columns, by):
    return [tuple(c[by == g] for c in columns) for g in np.unique(by)]


def test_auc_is_the_share_of_pairs_in_order(rows):
    labels, p, _ = rows
    assert auc(labels, p) == pytest.approx(pairwise_auc(labels, p), abs=1e-12)
    assert auc(labels, np.full(600, 0.5)) == 0.5
    assert auc(labels, labels) == 1.0


def test_auc_tells_replicas_apart_that_differ_in_one_pair():
    n = 2000
    labels = np.arange(2 * n) % 2
    p = np.arange(2 * n) / (4 * n)
    q = p.copy()
    q[[0, 1]] = q[[1, 0]]
    assert auc(labels, p) - auc(labels, q) == pytest.approx(1 / n**2, rel=1e-6)


def test_gauc_weighs_by_impressions_and_leaves_out_one_class_groups(rows):
    labels, p, request = rows
    parts = [(pairwise_auc(y, s), len(y)) for y, s in groups(labels, p, by=request)]
    known = [(value, size) for value, size in parts if not math.isnan(value)]
    expected = sum(value * size for value, size in known) / sum(size for _, size in known)
    assert gauc(labels, p, request) == pytest.approx(expected, abs=1e-12)


def test_ranking_loss_is_a_mean_of_means(rows):
    labels, p, request = rows
    p = p.clip(0.01, 0.99)
    log_odds = np.log(p / (1 - p))
    losses = []
    for y, score in groups(labels, log_odds, by=request):
        gaps = [b - a for a in score[y > 0] for b in score[y == 0]]
        if gaps:
            losses.append(np.mean([math.log1p(math.exp(gap)) for gap in gaps]))
    assert ranking_loss(labels, p, request) == pytest.approx(np.mean(losses), abs=1e-9)


@pytest.mark.parametrize("labels", ["clicks", "one click", "grades", "values", "equal"])
def test_ranking_loss_of_a_long_list(labels):
    """Pairs of long lists are not gone through one by one; what is said of them is the same."""
    rng = np.random.default_rng(6)
    size = 3000
    p = np.concatenate([rng.random(size - 6), [0.0, 1.0, 0.5, 0.5, 1e-9, 1 - 1e-9]])
    y = {
        "clicks": rng.random(size) < 0.4,
        "one click": np.arange(size) == 1000,
        "grades": rng.integers(0, 5, size) / 4,
        "values": rng.random(size).round(3),
        "equal": np.ones(size),
    }[labels].astype(float)
    w = rng.random(size) * (rng.random(size) < 0.9)
    clipped = p.clip(1e-7, 1 - 1e-7)
    log_odds = np.log(clipped / (1 - clipped))
    pair_weights = w[:, None] * w * (y[:, None] > y)
    losses = np.logaddexp(0, log_odds - log_odds[:, None])
    expected = (losses * pair_weights).sum()
    order = np.argsort(-y)
    assert logistic_loss_sum(y[order], log_odds[order], w[order]) == pytest.approx(expected, rel=1e-12)
    # Beside a request of the usual size.
    labels_of_both, scores = np.append(y, [1, 0]), np.append(p, [0.5, 0.5])
    weights, request = np.append(w, [2, 2]), np.append(np.full(size, 4), [9, 9])
    means = [(math.log(2), 2.0)]
    if pair_weights.any():
        means.append((expected / pair_weights.sum(), w[w > 0].mean()))
    mean = np.average([value for value, _ in means], weights=[weight for _, weight in means])
    assert ranking_loss(labels_of_both, scores, request, weight=weights) == pytest.approx(mean, rel=1e-12)


def brute_ndcg(y, score, k):
    """The mean over all orders of equal scores; nan where no order is better than another."""
    if len(set(y)) < 2:
        return math.nan
    discount = 1 / np.log2(np.arange(2, 2 + min(k, len(y))))
    best = np.sort(y)[::-1][:k] @ discount
    runs = [[y[i] for i in np.flatnonzero(score == value)] for value in sorted(set(score), reverse=True)]
    orders = itertools.product(*(list(itertools.permutations(run)) for run in runs))
    got = [np.array([gain for run in order for gain in run])[:k] @ discount for order in orders]
    return float(np.mean(got)) / best


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=12),
    st.integers(1, 4),
)
def test_ndcg_is_the_mean_over_all_orders_of_equal_scores(rows, k):
    y, p, request = np.array(rows, dtype=float).T
    parts = [brute_ndcg(labels, score, k) for labels, score in groups(y, p / 3, by=request)]
    want = [value for value in parts if not math.isnan(value)]
    got = ndcg(y, p / 3, request, k=k)
    assert got == pytest.approx(np.mean(want), abs=1e-12) if want else math.isnan(got)


def test_requests_that_cannot_be_ranked_take_no_part_in_ndcg():
    ranked = ndcg([0, 1, 0], [0.9, 0.5, 0.1], [7, 7, 7])
    assert ndcg([0, 1, 0, 1, 1, 0], [0.9, 0.5, 0.1, 0.3, 0.2, 0.1], [7, 7, 7, 8, 8, 9]) == ranked
    assert math.isnan(ndcg([1, 1, 0], [0.3, 0.2, 0.1], [8, 8, 9]))
    assert ndcg([3.0, 0.5], [0.1, 0.2], [1, 1]) < 1 == ndcg([3.0, 0.5], [0.2, 0.1], [1, 1])


MEASURES = {
    "auc": lambda y, p, r, w: auc(y, p, weight=w),
    "logloss": lambda y, p, r, w: logloss(y, p, weight=w),
    "calibration": lambda y, p, r, w: calibration(y, p, weight=w),
    "ece": lambda y, p, r, w: ece(y, p, weight=w),
    "gauc": lambda y, p, r, w: gauc(y, p, r, weight=w),
    "ranking_loss": lambda y, p, r, w: ranking_loss(y, p, r, weight=w),
    "ndcg": lambda y, p, r, w: ndcg(y, p, r, weight=w),
}


@pytest.mark.parametrize("name", MEASURES)
def test_the_order_of_rows_and_the_scale_of_weights_change_nothing(rows, name):
    labels, p, request = rows
    rng = np.random.default_rng(1)
    weight, order = rng.random(600), rng.permutation(600)
    value = MEASURES[name](labels, p, request, weight)
    assert MEASURES[name](labels[order], p[order], request[order], weight[order]) == pytest.approx(
        value, abs=1e-12
    )
    assert MEASURES[name](labels, p, request, 7 * weight) == pytest.approx(value, abs=1e-12)
    plain = MEASURES[name](labels, p, request, None)
    assert MEASURES[name](labels, p, request, np.full(600, 0.3)) == pytest.approx(plain, abs=1e-12)
    assert value != plain


@pytest.mark.parametrize("name", MEASURES)
def test_rows_of_weight_zero_take_no_part(rows, name):
    labels, p, request = rows
    weight = np.random.default_rng(2).integers(0, 2, 600).astype(float)
    kept = weight > 0
    without = MEASURES[name](labels[kept], p[kept], request[kept], None)
    assert MEASURES[name](labels, p, request, weight) == pytest.approx(without, abs=1e-12)


@pytest.mark.parametrize("name", ["auc", "logloss", "calibration", "ece", "gauc"])
def test_a_weight_of_three_is_the_row_three_times(rows, name):
    labels, p, request = rows
    weight = np.random.default_rng(3).integers(1, 4, 600)
    repeated = [np.repeat(column, weight) for column in (labels, p, request)]
    value = MEASURES[name](labels, p, request, weight)
    assert value == pytest.approx(MEASURES[name](*repeated, None), abs=1e-12)


def test_weighted_values_by_hand():
    labels, p, request, weight = (
        [1, 0, 0, 1, 0],
        [0.8, 0.6, 0.9, 0.3, 0.5],
        [1, 1, 1, 2, 2],
        [2.0, 1, 3, 1, 1],
    )
    assert auc(labels, p, weight=weight) == pytest.approx((2 * (1 + 1) + 0) / (3 * 5))
    assert gauc(labels, p, request, weight=weight) == pytest.approx((6 * 0.25 + 2 * 0.0) / 8)
    loss = [2 * math.log(0.8), math.log(0.4), 3 * math.log(0.1), math.log(0.3), math.log(0.5)]
    assert logloss(labels, p, weight=weight) == pytest.approx(-sum(loss) / 8)
    assert calibration(labels, p, weight=weight) == pytest.approx((1.6 + 0.6 + 2.7 + 0.3 + 0.5) / 3)
    odds = [math.log(x / (1 - x)) for x in p]
    first = (math.log1p(math.exp(odds[1] - odds[0])) + 3 * math.log1p(math.exp(odds[2] - odds[0]))) / 4
    second = math.log1p(math.exp(odds[4] - odds[3]))
    assert ranking_loss(labels, p, request, weight=weight) == pytest.approx((2 * first + second) / 3)
    both = (2 / math.log2(3) + 1 / math.log2(3)) / 3
    assert ndcg(labels, p, request, weight=weight) == pytest.approx(both)


def test_calibration_error_of_bins_by_hand():
    labels, p = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.1, 0.1, 0.8, 0.8, 0.8])
    assert ece(labels, p) == pytest.approx((0.1 + 0.2) / 2)
    assert calibration(labels, p) == pytest.approx(0.9)
    rng = np.random.default_rng(4)
    p = rng.random(200_000)
    clicks = rng.random(200_000) < p
    assert ece(clicks, p) < 0.01 < 0.2 < ece(clicks, p**3)


def test_auc_components_sum_to_nothing_and_give_the_variance_of_a_difference(rows):
    labels, p, request = rows
    part = auc_components(labels, p, request)
    assert part.shape == (40,)
    assert part.sum() == pytest.approx(0, abs=1e-12)
    assert np.isnan(auc_components([1, 1], [0.1, 0.2], [1, 2])).all()


def test_logloss_is_finite_for_certain_predictions():
    assert logloss([1, 0], [0.5, 0.5]) == pytest.approx(math.log(2))
    assert logloss([1, 0], [0.0, 0.0]) == pytest.approx(-math.log(1e-7) / 2, rel=1e-6)


def test_undefined_is_nan():
    assert math.isnan(auc([1, 1], [0.1, 0.2]))
    assert math.isnan(auc([], []))
    assert math.isnan(logloss([], []))
    assert math.isnan(ece([], []))
    assert math.isnan(calibration([0], [0.5]))
    assert math.isnan(logloss([1], [0.5], weight=[0]))
    assert math.isnan(ndcg([1, 0], [0.5, 0.4], [1, 1], weight=[0, 1]))
    assert math.isnan(gauc([1, 0], [0.1, 0.2], [1, 2]))
    assert math.isnan(ranking_loss([1, 0], [0.1, 0.2], [1, 2]))
    assert math.isnan(ranking_loss([], [], []))
    assert math.isnan(ndcg([0, 0], [0.1, 0.2], [1, 1]))


@pytest.mark.parametrize(
    "call",
    [
        lambda: auc([0, 2], [0.1, 0.2]),
        lambda: auc([0, 1], [0.1, math.nan]),
        lambda: auc([0, 1], [0.1, 1.2]),
        lambda: auc([0, 1], [0.1]),
        lambda: gauc([0, 1], [0.1, 0.2], [1]),
        lambda: ndcg([0, -1], [0.1, 0.2], [1, 1]),
        lambda: ndcg([0, 1], [0.1, 0.2], [1, 1], k=0),
        lambda: auc([0, 1], [0.1, 0.2], weight=[1, -1]),
        lambda: auc([0, 1], [0.1, 0.2], weight=[1, math.inf]),
        lambda: auc([0, 1], [0.1, 0.2], weight=[1]),
    ],
)
def test_wrong_input_says_what_was_received(call):
    with pytest.raises(UserError, match="Received: "):
        call()
