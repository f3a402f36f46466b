"""Ranking quality of one model against labels. Report mean and deviation over replicas, never one run.

Labels are 0 or 1, or soft: a label y between counts as y of a positive and 1 - y of a negative with one score (for `ndcg`
any gain >= 0). Scores are probabilities, one entry a row [R]; `request` groups rows. `weight` (finite, >= 0, default 1)
says how much a row counts; rows of weight 0 take no part. Only the ratios of weights matter. All are nan where undefined
(one class only).

Raises:
    UserError: (all) lengths differ, a label is outside [0, 1], a score is not a probability, a weight is not finite or < 0.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.bits import Array
from ranker.divergence.pair_losses import PAIRS_UP_TO, logistic_loss_sum
from ranker.divergence.ranked import LOGIT_LIMIT, logit
from ranker.divergence.sorted_quality import SortedQuality, sum_by_score
from ranker.errors import UserError


def auc(labels: ArrayLike, scores: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    """Probability that a positive scores above a negative, ties one half; exact, from ranks.

    Formula: auc = (D + T/2) / (positives negatives); D pairs in the right order, T tied pairs; with weights a pair
        counts w_i w_j
    Range: [0, 1]. 0.5: no better than chance. 1: every positive above every negative.
    Source: Mann and Whitney, 1947. Not from 200 bins: gaps between replicas are 1e-4.

    Example:
        >>> auc([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1])
        0.875
        >>> auc([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1], weight=[1, 1, 1, 0])
        0.75
    """
    y, p, w, _ = _checked(labels, scores, weight)
    return float(_group_auc(y, p, w, np.zeros(len(y), dtype=np.int64), 1)[0])


def auc_components(labels: ArrayLike, scores: ArrayLike, request: ArrayLike) -> Array:
    """Each request's influence on the AUC, float64 [requests], in the order of the sorted ids; nan with one class.

    With F the share of negatives a positive beats (ties one half) and G the share of positives a negative loses to,
    the AUC's first-order change is mean over positives of (F - auc) plus mean over negatives of (G - auc); these
    terms are summed by request. Their sum is 0. Their squares, summed, estimate the AUC's variance with the request
    as unit, and those of the difference of two models' the variance of the difference.

    Source: Obuchowski, "Nonparametric analysis of clustered ROC curve data", 1997; DeLong et al., 1988.

    Example:
        >>> auc_components([1, 0, 1, 0], [.9, .5, .6, .7], [0, 0, 1, 1]).tolist()
        [0.25, -0.25]
    """
    y, p, _, code = _checked(labels, scores, None, request)
    if ((y != 0) & (y != 1)).any():
        raise UserError(f"`labels` must be 0 or 1. Received: {y[(y != 0) & (y != 1)][0]}")
    count = int(code.max(initial=-1)) + 1
    positive = y > 0
    high, low = np.sort(p[positive]), np.sort(p[~positive])
    if not len(high) or not len(low):
        return np.full(count, math.nan)

    def below(values: Array, among: Array) -> Array:
        return (np.searchsorted(among, values, "left") + np.searchsorted(among, values, "right")) / 2

    influence = np.empty(len(p))
    influence[positive] = below(p[positive], low) / len(low)
    influence[~positive] = 1.0 - below(p[~positive], high) / len(high)
    influence -= influence[positive].mean()
    influence[positive] /= len(high)
    influence[~positive] /= len(low)
    return np.bincount(code, weights=influence, minlength=count)


def logloss(labels: ArrayLike, scores: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    """Mean negative log-likelihood, in nats; probabilities are clipped to [1e-7, 1 - 1e-7].

    Formula: logloss = - mean (y ln p + (1 - y) ln(1 - p)); with weights the weighted mean
    Range: [0, 16.2]. 0: certain and right. ln 2 = 0.693: always one half.
    Source: Good, "Rational decisions", 1952.

    Example:
        >>> round(logloss([1, 0], [0.8, 0.5]), 6)
        0.458145
    """
    y, p, w, _ = _checked(labels, scores, weight)
    return float(np.average(row_logloss(y, p), weights=w)) if len(y) else math.nan


def rmse(labels: ArrayLike, scores: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    """Root of the mean squared error of values that a regression predicts, in the label's unit.

    Formula: rmse = sqrt(mean (p - y)^2); with weights the weighted mean
    Range: [0, infinity). 0: every value is right. The label's standard deviation: no better than its mean.
    Source: TFRS' ranking tutorial, `RootMeanSquaredError`.

    Example:
        >>> rmse([1, 5], [2, 5])
        0.7071067811865476
    """
    errors, w = _errors(labels, scores, weight)
    return math.sqrt(np.average(np.square(errors), weights=w)) if w.any() else math.nan


def mae(labels: ArrayLike, scores: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    """Mean absolute error of values that a regression predicts, in the label's unit.

    Formula: mae = mean |p - y|; with weights the weighted mean
    Range: [0, infinity). 0: every value is right.
    Source: Willmott and Matsuura, 2005.

    Example:
        >>> mae([1, 5], [2, 5])
        0.5
    """
    errors, w = _errors(labels, scores, weight)
    return float(np.average(np.abs(errors), weights=w)) if w.any() else math.nan


def _errors(labels: ArrayLike, scores: ArrayLike, weight: ArrayLike | None) -> tuple[Array, Array]:
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape or not (np.isfinite(y).all() and np.isfinite(p).all()):
        raise UserError(
            f"`labels` and `scores` must be [R] each, finite. Received: shapes {y.shape} and {p.shape}"
        )
    return p - y, np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)


def row_logloss(labels: ArrayLike, scores: ArrayLike) -> Array:
    """Negative log-likelihood of each row, in nats, float64 [R]; see `logloss`."""
    y, p, _, _ = _checked(labels, scores, None)
    p = np.clip(p, LOGIT_LIMIT, 1 - LOGIT_LIMIT)
    return np.asarray(-(y * np.log(p) + (1 - y) * np.log(1 - p)))


def calibration(labels: ArrayLike, scores: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    """Predicted over observed: how far the level of all predictions is off, which a ranking does not show.

    Formula: calibration = sum w p / sum w y
    Range: [0, infinity). 1: as many clicks predicted as there were. 1.1: a tenth too many. nan without positives.
    Source: He et al., "Practical lessons from predicting clicks on ads at Facebook", 2014, section 3.

    Example:
        >>> calibration([1, 0, 0, 1], [0.9, 0.4, 0.4, 0.8])
        1.25
    """
    y, p, w, _ = _checked(labels, scores, weight)
    return float((w @ p) / (w @ y)) if len(y) and y.any() else math.nan


def ece(labels: ArrayLike, scores: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    """Expected calibration error: how far predicted and observed rates are apart, within 15 bins of equal weight.

    Formula: ece = sum_b W_b / W |mean p - mean y in bin b|; rows sorted by p are cut where the weight reaches b/15 of
        all, equal predictions are never cut apart
    Range: [0, 1]. 0: in every bin as many clicks as predicted.
    Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", 2015; bins
        of equal weight since click rates crowd near 0.

    Example:
        >>> round(ece([1, 0, 1, 0], [0.5, 0.5, 0.75, 0.75]), 6)
        0.125
    """
    y, p, w, _ = _checked(labels, scores, weight)
    quality = SortedQuality(float(w.sum()))
    quality.add(*sum_by_score(p, w, w * y).T)
    return quality.ece


def ranking_loss(
    labels: ArrayLike, scores: ArrayLike, request: ArrayLike, *, weight: ArrayLike | None = None
) -> float:
    """Pairwise logistic loss over pairs of a higher and a lower label, the mean over requests that have one.

    Formula: ranking_loss = mean_n mean_(i, j of n with y_i > y_j) ln(1 + exp(l_j - l_i)), l log-odds; with weights
        a pair counts w_i w_j, a request the mean weight of its rows
    Range: [0, 32.3]. 0: positives far above negatives. ln 2 = 0.693: all equal.
    Source: RankNet, Burges et al., "Learning to rank using gradient descent", 2005.

    Example:
        >>> round(ranking_loss([1, 0, 0], [0.5, 0.5, 0.5], [7, 7, 7]), 6)
        0.693147
    """
    y, p, w, code = _checked(labels, scores, weight, request)
    count = int(code.max(initial=-1)) + 1
    order = np.lexsort((-y, code))  # a request's highest labels first
    y, code, logits, w = y[order], code[order], logit(p[order]), w[order]
    sizes = np.bincount(code, minlength=count)
    is_new = np.ones(len(y), dtype=bool)
    is_new[1:] = (y[1:] != y[:-1]) | (code[1:] != code[:-1])
    ends = np.append(np.flatnonzero(is_new)[1:], len(y))
    first_rival = (
        ends[np.cumsum(is_new) - 1] if len(y) else np.zeros(0, np.int64)
    )  # the first of a lower label
    rivals = np.cumsum(sizes)[code] - first_rival
    loss, pairs = np.zeros(count), np.zeros(count)
    long = np.bincount(code, weights=rivals, minlength=count) > PAIRS_UP_TO
    starts = np.cumsum(sizes) - sizes
    for request_code in np.flatnonzero(long):
        span = slice(starts[request_code], starts[request_code] + sizes[request_code])
        loss[request_code] = logistic_loss_sum(y[span], logits[span], w[span])
        behind = np.append(np.cumsum(w[span][::-1])[::-1], 0.0)
        pairs[request_code] = w[span] @ behind[first_rival[span] - starts[request_code]]
    for rows in _runs(np.where(long[code], 0, rivals)):
        higher = np.repeat(rows, rivals[rows])
        step = np.arange(len(higher)) - np.repeat(np.cumsum(rivals[rows]) - rivals[rows], rivals[rows])
        lower = first_rival[higher] + step
        pair_weight = w[higher] * w[lower]
        gap = np.logaddexp(0.0, logits[lower] - logits[higher])
        loss += np.bincount(code[higher], weights=gap * pair_weight, minlength=count)
        pairs += np.bincount(code[higher], weights=pair_weight, minlength=count)
    both = pairs > 0
    weights = np.bincount(code, weights=w, minlength=count) / np.maximum(sizes, 1)
    return float(np.average(loss[both] / pairs[both], weights=weights[both])) if both.any() else math.nan


def gauc(
    labels: ArrayLike, scores: ArrayLike, request: ArrayLike, *, weight: ArrayLike | None = None
) -> float:
    """AUC within each group, averaged with the group's impressions as weights; one-class groups are left out.

    Formula: gauc = sum_n K_n auc_n / sum_n K_n over groups n with both classes; with weights auc_n is the weighted one
        and K_n the sum of the group's weights
    Range: [0, 1]. 0.5: no better than chance within a group. 1: every positive on top of its group.
    Source: Zhou et al., "Deep interest network for click-through rate prediction", 2018, section 6.2.

    Example:
        >>> gauc([1, 0, 1, 0, 1], [0.9, 0.1, 0.2, 0.7, 0.5], [1, 1, 2, 2, 3])
        0.5
    """
    y, p, w, code = _checked(labels, scores, weight, request)
    count = int(code.max(initial=-1)) + 1
    per_group = _group_auc(y, p, w, code, count)
    both = ~np.isnan(per_group)
    impressions = np.bincount(code, weights=w, minlength=count)
    return float(np.average(per_group[both], weights=impressions[both])) if both.any() else math.nan


def ndcg(
    labels: ArrayLike,
    scores: ArrayLike,
    request: ArrayLike,
    *,
    k: int = 10,
    weight: ArrayLike | None = None,
) -> float:
    """Normalised discounted cumulative gain of the top k, the mean over requests that can be ranked.

    A request with one candidate, or with one label only, has no better and no worse order: it takes no part. Equal
    scores share their places: each gets the mean of what the places give, as any order of them would on average.

    Formula: ndcg@k = mean_n sum_(r<=k) y_r / log2(1 + r) / (the same for the best order); with weights a request
        counts the mean weight of its rows
    Range: [0, 1]. 0: no positive in any top k. 1: positives first in every request.
    Source: Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques", 2002; gain = label. Ties:
        McSherry and Najork, "Computing information retrieval performance measures efficiently in the presence of tied
        scores", 2008.

    Args:
        labels: gains >= 0 [R].
        scores: probabilities [R].
        request: group of each row [R].
        k: how deep the top of a list is.
        weight: of each row [R].

    Example:
        >>> round(ndcg([0, 1, 0], [0.9, 0.5, 0.1], [7, 7, 7]), 6)
        0.63093
        >>> round(ndcg([0, 1], [0.5, 0.5], [7, 7]), 6)
        0.815465
    """
    values, weights = request_ndcg(labels, scores, request, k=k, weight=weight)
    ranked = ~np.isnan(values)
    return float(np.average(values[ranked], weights=weights[ranked])) if ranked.any() else math.nan


def request_ndcg(
    labels: ArrayLike,
    scores: ArrayLike,
    request: ArrayLike,
    *,
    k: int = 10,
    weight: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """NDCG@k of each request, nan where it cannot be ranked, and its weight: float64 [requests] each, by sorted id.

    Requests without a row of positive weight are not there. See `ndcg`.
    """
    y, p, w, code = _checked(labels, scores, weight, request, gains=True)
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise UserError(f"`k` must be an integer >= 1. Received: k={k!r}")
    count = int(code.max(initial=-1)) + 1
    sizes = np.bincount(code, minlength=count)
    rank = np.arange(len(y)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    discount = np.where(rank < k, 1 / np.log2(rank + 2), 0.0)
    owner = np.repeat(np.arange(count), sizes)
    best = np.bincount(owner, weights=discount * y[np.lexsort((-y, code))], minlength=count)
    order = np.lexsort((-p, code))
    gains, score = y[order], p[order]
    new = np.ones(len(y), dtype=bool)
    new[1:] = (score[1:] != score[:-1]) | (owner[1:] != owner[:-1])
    tied = np.cumsum(new) - 1
    mean_gain = np.bincount(tied, weights=gains) / np.bincount(tied) if len(y) else gains
    got = np.bincount(owner, weights=discount * mean_gain[tied], minlength=count)
    varied = np.bincount(code, weights=y != _first_of_group(y, code, count)[code], minlength=count) > 0
    values = np.where(varied, got / np.where(best > 0, best, 1.0), math.nan)
    return values, np.bincount(code, weights=w, minlength=count) / np.maximum(sizes, 1)


def _first_of_group(y: Array, code: Array, count: int) -> Array:
    first = np.zeros(count)
    first[code[::-1]] = y[::-1]
    return first


def _group_auc(y: Array, p: Array, w: Array, code: Array, count: int) -> Array:
    """AUC of each group, nan with one class: each positive beats the weight of negatives below it, half of the tied."""
    order = np.lexsort((p, code))
    y, p, w, code = y[order], p[order], w[order], code[order]
    new = np.ones(len(y), dtype=bool)
    new[1:] = (p[1:] != p[:-1]) | (code[1:] != code[:-1])
    tied = np.cumsum(new) - 1
    negative, positive = w * (1 - y), w * y
    at = np.bincount(tied, weights=negative) if len(y) else np.zeros(0)
    total = np.bincount(code, weights=negative, minlength=count)
    before = (np.cumsum(at) - at / 2)[tied] - (np.cumsum(total) - total)[code]
    wins = np.bincount(code, weights=positive * before, minlength=count)
    pairs = np.bincount(code, weights=positive, minlength=count) * total
    return np.where(pairs > 0, wins / np.where(pairs > 0, pairs, 1.0), np.nan)


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


def _checked(
    labels: ArrayLike,
    scores: ArrayLike,
    weight: ArrayLike | None,
    request: ArrayLike | None = None,
    *,
    gains: bool = False,
) -> tuple[Array, Array, Array, Array]:
    """Labels, scores, weights and groups 0, 1, ... of the rows that take part."""
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise UserError(f"`labels` and `scores` must be [R] each. Received: shapes {y.shape} and {p.shape}")
    wrong = ~(np.isfinite(y) & (y >= 0)) if gains else ~((y >= 0) & (y <= 1))
    if wrong.any():
        raise UserError(
            f"`labels` must be {'finite and >= 0' if gains else 'in [0, 1]'}. Received: {y[wrong][0]}"
        )
    wrong = ~((p >= 0) & (p <= 1))
    if wrong.any():
        raise UserError(f"`scores` must be probabilities in [0, 1]. Received: {p[wrong][0]}")
    w = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
    if w.shape != y.shape:
        raise UserError(f"`weight` must have one entry a row. Received: shape {w.shape} for {len(y)} rows")
    wrong = ~(np.isfinite(w) & (w >= 0))
    if wrong.any():
        raise UserError(f"`weight` must be finite and >= 0. Received: {w[wrong][0]}")
    ids = np.zeros(len(y), dtype=np.int64) if request is None else np.asarray(request)
    if ids.shape != y.shape:
        raise UserError(f"`request` must have one entry a row. Received: shape {ids.shape} for {len(y)} rows")
    if not (w > 0).all():
        included = w > 0
        y, p, w, ids = y[included], p[included], w[included], ids[included]
    code = ids if request is None else np.unique(ids, return_inverse=True)[1]
    return y, p, w, code
