"""Ranking quality of every model on one shard, in a form that merges over shards.

A shard holds whole requests, so what is a mean over requests is a mean over shards weighted by the requests that
counted. AUC and calibration are no such means: they are computed once, from all predictions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ranker.divergence import auc, calibration, ece, gauc, logloss, ranking_loss
from ranker.divergence.quality import request_ndcg

K = 10
"""How deep the top of a list is, in `ndcg` and in the measures of the tops of two lists."""
MEASURES = ("auc", "logloss", "gauc", f"ndcg@{K}", "ranking_loss")
CALIBRATION = ("calibration", "ece")
"""What is said of the level of predictions, beside their quality."""
Means = dict[str, tuple[float, float]]
"""Measure -> (mean, weight)."""


def shard_quality(
    label: np.ndarray, score: np.ndarray, request: np.ndarray, weight: np.ndarray | None = None
) -> Means:
    """Quality of one model on whole requests.

    Args:
        label: 0 or 1 [R].
        score: probabilities [R].
        request: group of each row [R], integers from 0.
        weight: of each row [R], >= 0; None: 1. Rows of weight 0 take no part.

    Returns:
        Every measure but `auc`, `calibration` and `ece`, with its weight: that of the rows, or of the requests that
        have what the measure needs.
    """
    rows = np.ones(len(label)) if weight is None else weight
    gains, weights = request_ndcg(label, score, request, k=K, weight=weight)
    ranked = ~np.isnan(gains)  # requests with both classes: what GAUC and the ranking loss need too
    included = rows > 0
    impressions = np.bincount(np.unique(request[included], return_inverse=True)[1], weights=rows[included])
    ndcg = float(np.average(gains[ranked], weights=weights[ranked])) if ranked.any() else math.nan
    return {
        "logloss": (logloss(label, score, weight=weight), float(rows.sum())),
        "gauc": (gauc(label, score, request, weight=weight), float(impressions[ranked].sum())),
        f"ndcg@{K}": (ndcg, float(weights[ranked].sum())),
        "ranking_loss": (ranking_loss(label, score, request, weight=weight), float(weights[ranked].sum())),
    }


def unranked_requests(label: np.ndarray, request: np.ndarray, weight: np.ndarray | None = None) -> int:
    """Requests that GAUC, NDCG and the ranking loss leave out: one candidate, or one class, or no weight at all."""
    included = np.ones(len(label), bool) if weight is None else weight > 0
    count = int(request.max(initial=-1)) + 1
    rows = np.bincount(request[included], minlength=count)
    positives = np.bincount(request[included], weights=label[included], minlength=count)
    return int(((positives == 0) | (positives == rows)).sum())


def merge_quality(shards: Iterable[Means]) -> Means:
    """All shards together, in the order given: sums of floats depend on it in their last digits."""
    totals: dict[str, tuple[float, float]] = {}
    for means in shards:
        for measure, (mean, weight) in means.items():
            if weight > 0:
                total, before = totals.get(measure, (0.0, 0.0))
                totals[measure] = total + mean * weight, before + weight
    return {measure: (total / weight, weight) for measure, (total, weight) in totals.items()}


def quality_values(
    means: Means, label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, float]:
    """Every measure of one model; nan where the data do not define it.

    Args:
        means: of all shards.
        label: of all rows [R].
        score: of all rows [R].
        weight: of all rows [R]; None: 1.
    """
    values = {measure: means.get(measure, (math.nan, 0.0))[0] for measure in MEASURES}
    return values | {"auc": auc(label, score, weight=weight)}


def calibration_values(
    label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, float]:
    """`CALIBRATION` of one model from all rows; arguments as of `quality_values`."""
    return {
        "calibration": calibration(label, score, weight=weight),
        "ece": ece(label, score, weight=weight),
    }
