"""Quality measures against plain Python, and what has no answer."""

import math

import numpy as np
import pytest

from ranker.divergence import auc, gauc, logloss, ndcg, ranking_loss
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


def test_ndcg(rows):
    labels, p, request = rows
    expected = []
    for y, score in groups(labels, p, by=request):
        got = y[np.argsort(-score, kind="stable")][:10]
        best = np.sort(y)[::-1][:10]
        discount = 1 / np.log2(np.arange(2, 2 + len(best)))
        if best.any():
            expected.append((got * discount).sum() / (best * discount).sum())
    assert ndcg(labels, p, request) == pytest.approx(np.mean(expected), abs=1e-12)
    assert ndcg([3.0, 0.5], [0.1, 0.2], [1, 1]) < 1 == ndcg([3.0, 0.5], [0.2, 0.1], [1, 1])
    assert ndcg([0, 1], [0.5, 0.5], [1, 1], k=1, item=[2, 1]) == 1
    assert ndcg([0, 1], [0.5, 0.5], [1, 1], k=1) == 0


def test_logloss_is_finite_for_certain_predictions():
    assert logloss([1, 0], [0.5, 0.5]) == pytest.approx(math.log(2))
    assert logloss([1, 0], [0.0, 0.0]) == pytest.approx(-math.log(1e-7) / 2, rel=1e-6)


def test_undefined_is_nan():
    assert math.isnan(auc([1, 1], [0.1, 0.2]))
    assert math.isnan(auc([], []))
    assert math.isnan(logloss([], []))
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
    ],
)
def test_wrong_input_says_what_was_received(call):
    with pytest.raises(UserError, match="Received: "):
        call()
