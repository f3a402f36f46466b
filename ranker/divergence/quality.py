"""Ranking quality of one model against labels. Report mean and deviation over replicas, never one run.

Labels are 0 or 1 (for `ndcg` any gain >= 0), scores are probabilities, one entry a row [R]; `request` groups
rows. All are nan where undefined (one class only).

Raises:
    UserError: (all) lengths differ, a label is not 0 or 1, a score is not a probability.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.bits import Array
from ranker.divergence.ranked import LOGIT_LIMIT, logit
from ranker.errors import UserError


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Probability that a positive scores above a negative, ties one half; exact, from ranks.

    Formula: auc = (D + T/2) / (positives negatives); D pairs in the right order, T tied pairs
    Range: [0, 1]. 0.5: no better than chance. 1: every positive above every negative.
    Source: Mann and Whitney, 1947. Not from 200 bins: gaps between replicas are 1e-4.

    Example:
        >>> auc([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1])
        0.875
    """
    y, p = _checked(labels, scores)
    return float(_group_auc(y, p, np.zeros(len(y), dtype=np.int64), 1)[0][0])


def logloss(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean negative log-likelihood, in nats; probabilities are clipped to [1e-7, 1 - 1e-7].

    Formula: logloss = - mean (y ln p + (1 - y) ln(1 - p))
    Range: [0, 16.2]. 0: certain and right. ln 2 = 0.693: always one half.
    Source: Good, "Rational decisions", 1952.

    Example:
        >>> round(logloss([1, 0], [0.8, 0.5]), 6)
        0.458145
    """
    y, p = _checked(labels, scores)
    p = np.clip(p, LOGIT_LIMIT, 1 - LOGIT_LIMIT)
    return float(-np.log(np.where(y > 0, p, 1 - p)).mean()) if len(y) else math.nan


def ranking_loss(labels: ArrayLike, scores: ArrayLike, request: ArrayLike) -> float:
    """Pairwise logistic loss over (positive, negative) pairs, the mean over requests that have both.

    Formula: ranking_loss = mean_n mean_(i positive, j negative of n) ln(1 + exp(l_j - l_i)), l log-odds
    Range: [0, 32.3]. 0: positives far above negatives. ln 2 = 0.693: all equal.
    Source: RankNet, Burges et al., "Learning to rank using gradient descent", 2005.

    Example:
        >>> round(ranking_loss([1, 0, 0], [0.5, 0.5, 0.5], [7, 7, 7]), 6)
        0.693147
    """
    y, p = _checked(labels, scores)
    code, count = _groups(request, len(y))
    order = np.lexsort((-y, code))  # a request's positives first
    y, code, logits = y[order], code[order], logit(p[order])
    positives = np.bincount(code, weights=y, minlength=count).astype(np.int64)
    sizes = np.bincount(code, minlength=count)
    first_negative = np.cumsum(sizes) - sizes + positives
    rivals = (sizes - positives)[code] * (y > 0)  # negatives that each positive meets
    loss = np.zeros(count)
    for rows in _runs(rivals):
        left = np.repeat(rows, rivals[rows])
        step = np.arange(len(left)) - np.repeat(np.cumsum(rivals[rows]) - rivals[rows], rivals[rows])
        gap = logits[first_negative[code[left]] + step] - logits[left]
        loss += np.bincount(code[left], weights=np.logaddexp(0.0, gap), minlength=count)
    pairs = positives * (sizes - positives)
    return float((loss[pairs > 0] / pairs[pairs > 0]).mean()) if (pairs > 0).any() else math.nan


def gauc(labels: ArrayLike, scores: ArrayLike, request: ArrayLike) -> float:
    """AUC within each group, averaged with the group's impressions as weights; one-class groups are left out.

    Formula: gauc = sum_n K_n auc_n / sum_n K_n over groups n with both classes
    Range: [0, 1]. 0.5: no better than chance within a group. 1: every positive on top of its group.
    Source: Zhou et al., "Deep interest network for click-through rate prediction", 2018, section 6.2.

    Example:
        >>> gauc([1, 0, 1, 0, 1], [0.9, 0.1, 0.2, 0.7, 0.5], [1, 1, 2, 2, 3])
        0.5
    """
    y, p = _checked(labels, scores)
    code, count = _groups(request, len(y))
    per_group, sizes = _group_auc(y, p, code, count)
    both = ~np.isnan(per_group)
    return float(np.average(per_group[both], weights=sizes[both])) if both.any() else math.nan


def ndcg(
    labels: ArrayLike, scores: ArrayLike, request: ArrayLike, *, k: int = 10, item: ArrayLike | None = None
) -> float:
    """Normalised discounted cumulative gain of the top k, the mean over requests with a positive label.

    Formula: ndcg@k = mean_n sum_(r<=k) y_r / log2(1 + r) / (the same for the best order)
    Range: [0, 1]. 0: no positive in any top k. 1: positives first in every request.
    Source: Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques", 2002; gain = label.

    Args:
        labels: gains >= 0 [R].
        scores: probabilities [R].
        request: group of each row [R].
        k: how deep the top of a list is.
        item: item ids [R]: ties break by ascending id. Default: by row.

    Example:
        >>> round(ndcg([0, 1, 0], [0.9, 0.5, 0.1], [7, 7, 7]), 6)
        0.63093
    """
    y, p = _checked(labels, scores, gains=True)
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise UserError(f"`k` must be an integer >= 1. Received: k={k!r}")
    code, count = _groups(request, len(y))
    tie = np.arange(len(y)) if item is None else np.asarray(item)
    sizes = np.bincount(code, minlength=count)
    rank = np.arange(len(y)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    weight = np.where(rank < k, 1 / np.log2(rank + 2), 0.0)
    owner = np.repeat(np.arange(count), sizes)
    got = np.bincount(owner, weights=weight * y[np.lexsort((tie, -p, code))], minlength=count)
    best = np.bincount(owner, weights=weight * y[np.lexsort((-y, code))], minlength=count)
    return float((got[best > 0] / best[best > 0]).mean()) if (best > 0).any() else math.nan


def _group_auc(y: Array, p: Array, code: Array, count: int) -> tuple[Array, Array]:
    """AUC of each group (nan with one class) and its size, from average ranks within the group."""
    order = np.lexsort((p, code))
    y, p, code = y[order], p[order], code[order]
    sizes = np.bincount(code, minlength=count)
    new = np.ones(len(y), dtype=bool)
    new[1:] = (p[1:] != p[:-1]) | (code[1:] != code[:-1])
    run = np.cumsum(new) - 1
    begin = np.flatnonzero(new)
    end = np.append(begin[1:], len(y))
    middle = ((begin + end - 1) / 2)[run] if len(y) else np.zeros(0)
    rank = middle - (np.cumsum(sizes) - sizes)[code]  # from 0, within the group
    positives = np.bincount(code, weights=y, minlength=count)
    wins = np.bincount(code, weights=rank * y, minlength=count) - positives * (positives - 1) / 2
    pairs = positives * (sizes - positives)
    return np.where(pairs > 0, wins / np.maximum(pairs, 1), np.nan), sizes


def _runs(cost: Array, limit: int = 1 << 21) -> list[Array]:
    """Positions with a cost, in runs whose total cost stays near `limit`, to bound memory."""
    rows = np.flatnonzero(cost)
    if not len(rows):
        return []
    return np.split(rows, np.flatnonzero(np.diff(np.cumsum(cost[rows]) // limit)) + 1)


def _groups(request: ArrayLike, rows: int) -> tuple[Array, int]:
    ids = np.asarray(request)
    if ids.shape != (rows,):
        raise UserError(f"`request` must have one entry a row. Received: shape {ids.shape} for {rows} rows")
    unique, code = np.unique(ids, return_inverse=True)
    return code, len(unique)


def _checked(labels: ArrayLike, scores: ArrayLike, *, gains: bool = False) -> tuple[Array, Array]:
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise UserError(f"`labels` and `scores` must be [R] each. Received: shapes {y.shape} and {p.shape}")
    wrong = ~(np.isfinite(y) & (y >= 0)) if gains else (y != 0) & (y != 1)
    if wrong.any():
        raise UserError(
            f"`labels` must be {'finite and >= 0' if gains else '0 or 1'}. Received: {y[wrong][0]}"
        )
    wrong = ~((p >= 0) & (p <= 1))
    if wrong.any():
        raise UserError(f"`scores` must be probabilities in [0, 1]. Received: {p[wrong][0]}")
    return y, p
