"""Ranking quality of every model on one shard, in a form that merges over shards.

A shard holds whole requests, so what is a mean over requests is a mean over shards weighted by the requests that
counted. AUC and calibration are no such means: they come from all predictions, added up by score in each shard and merged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ranker.divergence import gauc, logloss, ranking_loss
from ranker.divergence.quality import request_ndcg
from ranker.divergence.sorted_quality import SortedQuality, sum_by_score

K = 10
"""How deep the top of a list is, in `ndcg` and in the measures of the tops of two lists."""
MEASURES = ("auc", "logloss", "gauc", f"ndcg@{K}", "ranking_loss")
VALUE_MEASURES = ("rmse", "mae")
"""What is measured besides of a regression, in the label's unit."""
CALIBRATION = ("calibration", "ece")
"""What is said of the level of predictions, beside their quality."""
SQUARED_ERROR, ABSOLUTE_ERROR = "squared_error", "absolute_error"
"""The means from which `VALUE_MEASURES` come."""
Means = dict[str, tuple[float, float]]
"""Measure -> (mean, weight)."""


def shard_quality(
    label: np.ndarray,
    score: np.ndarray,
    request: np.ndarray,
    weight: np.ndarray | None = None,
    gain: np.ndarray | None = None,
) -> Means:
    """Quality of one model on whole requests.

    Args:
        label: 0 or 1, or soft ones between [R].
        score: probabilities [R].
        request: group of each row [R], integers from 0.
        weight: of each row [R], >= 0; None: 1. Rows of weight 0 take no part.
        gain: of each row in NDCG [R], >= 0; None: the label.

    Returns:
        Every measure but `auc`, `calibration` and `ece`, with its weight: that of the rows, or of the requests that
        have what the measure needs.
    """
    rows = np.ones(len(label)) if weight is None else weight
    values, weights = request_ndcg(label if gain is None else gain, score, request, k=K, weight=weight)
    ranked = ~np.isnan(values)
    included = rows > 0
    owner = np.unique(request[included], return_inverse=True)[1]
    impressions = np.bincount(owner, weights=rows[included])
    positives = np.bincount(owner, weights=rows[included] * label[included])
    both = (positives > 0) & (positives < impressions)  # what GAUC needs
    differing = _differing(label[included], owner)  # what the ranking loss needs
    ndcg = float(np.average(values[ranked], weights=weights[ranked])) if ranked.any() else math.nan
    return {
        "logloss": (logloss(label, score, weight=weight), float(rows.sum())),
        "gauc": (gauc(label, score, request, weight=weight), float(impressions[both].sum())),
        f"ndcg@{K}": (ndcg, float(weights[ranked].sum())),
        "ranking_loss": (ranking_loss(label, score, request, weight=weight), float(weights[differing].sum())),
    }


def _differing(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Whether the values of each group, numbered from 0, are not all equal, bool [groups]."""
    count = int(owner.max(initial=-1)) + 1
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, owner, values)
    np.maximum.at(high, owner, values)
    return low < high


def unranked_requests(label: np.ndarray, request: np.ndarray, weight: np.ndarray | None = None) -> int:
    """Requests that GAUC, NDCG and the ranking loss leave out: one candidate, or one label, or no weight at all."""
    included = np.ones(len(label), bool) if weight is None else weight > 0
    return int(request.max(initial=-1)) + 1 - int(_differing(label[included], request[included]).sum())


def merge_quality(shards: Iterable[Means]) -> Means:
    """All shards together, in the order given: sums of floats depend on it in their last digits."""
    totals: dict[str, tuple[float, float]] = {}
    for means in shards:
        for measure, (mean, weight) in means.items():
            if weight > 0:
                total, before = totals.get(measure, (0.0, 0.0))
                totals[measure] = total + mean * weight, before + weight
    return {measure: (total / weight, weight) for measure, (total, weight) in totals.items()}


def shard_errors(label: np.ndarray, value: np.ndarray, weight: np.ndarray | None = None) -> Means:
    """`SQUARED_ERROR` and `ABSOLUTE_ERROR` of a regression's values [R] on a shard, in the label's unit."""
    rows = np.ones(len(label)) if weight is None else weight
    if not rows.any():
        return {}
    error, total = np.abs(value - label), float(rows.sum())
    return {
        SQUARED_ERROR: (float(np.average(np.square(error), weights=rows)), total),
        ABSOLUTE_ERROR: (float(np.average(error, weights=rows)), total),
    }


def shard_sums(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """The rows of one model added up by score; see `ranker.divergence.sorted_quality`.

    Args:
        label: 0 or 1, or soft ones between [R].
        score: probabilities [R].
        weight: of each row [R], >= 0; None: rows have none.

    Returns:
        float64 [n, 3], distinct scores with rows and positives at each; with weights [n, 5], then the sums of weights and
        of weighted positives.
    """
    columns = [np.ones(len(label)), label]
    return sum_by_score(score, *columns, *([] if weight is None else [weight, weight * label]))


def quality_values(
    means: Means, sums: Iterable[np.ndarray], *, weighted: bool = False, is_value: bool = False
) -> dict[str, float]:
    """Every measure of one model, those of `CALIBRATION` last; nan where the data do not define it.

    Of a regression's values those of probabilities are measured as shares of the label's range.

    Args:
        means: of all shards.
        sums: those of `shard_sums` of all rows, in parts of increasing scores.
        weighted: whether `means` are, and so which columns of `sums` are taken.
        is_value: whether scores are the values of a regression.
    """
    columns = slice(3, 5) if weighted else slice(1, 3)
    ordered = SortedQuality(means.get("logloss", (math.nan, 0.0))[1])
    for part in sums:
        ordered.add(part[:, 0], *part[:, columns].T)
    values = {measure: means.get(measure, (math.nan, 0.0))[0] for measure in MEASURES}
    values["auc"] = ordered.auc
    if is_value:
        squared, absolute = (means.get(m, (math.nan, 0.0))[0] for m in (SQUARED_ERROR, ABSOLUTE_ERROR))
        values = {"rmse": math.sqrt(squared), "mae": absolute, **values, "logloss": math.nan}
    return values | {"calibration": ordered.calibration, "ece": ordered.ece}
