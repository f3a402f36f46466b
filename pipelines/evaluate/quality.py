"""Ranking quality of every model on one shard, in a form that merges over shards.

A shard holds whole requests, so what is a mean over requests is a mean over shards weighted by the requests that
counted. AUC is not such a mean: it is computed once, from all predictions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ranker.divergence import auc, gauc, logloss, ndcg, ranking_loss

K = 10
"""How deep the top of a list is, in `ndcg` and in the measures of the tops of two lists."""
MEASURES = ("auc", "logloss", "gauc", f"ndcg@{K}", "ranking_loss")
Means = dict[str, tuple[float, float]]
"""Measure -> (mean, weight)."""


def shard_quality(label: np.ndarray, score: np.ndarray, request: np.ndarray, item: np.ndarray) -> Means:
    """Quality of one model on whole requests.

    Args:
        label: 0 or 1 [R].
        score: probabilities [R].
        request: group of each row [R], integers from 0.
        item: item ids [R], for ties.

    Returns:
        Every measure but `auc`, with its weight: rows, or requests that have what the measure needs.
    """
    rows = np.bincount(request)
    positives = np.bincount(request, weights=label)
    both = (positives > 0) & (positives < rows)
    return {
        "logloss": (logloss(label, score), float(len(label))),
        "gauc": (gauc(label, score, request), float(rows[both].sum())),
        f"ndcg@{K}": (ndcg(label, score, request, k=K, item=item), float((positives > 0).sum())),
        "ranking_loss": (ranking_loss(label, score, request), float(both.sum())),
    }


def merge_quality(shards: Iterable[Means]) -> Means:
    """All shards together, in the order given: sums of floats depend on it in their last digits."""
    totals: dict[str, tuple[float, float]] = {}
    for means in shards:
        for measure, (mean, weight) in means.items():
            if weight > 0:
                total, before = totals.get(measure, (0.0, 0.0))
                totals[measure] = total + mean * weight, before + weight
    return {measure: (total / weight, weight) for measure, (total, weight) in totals.items()}


def quality_values(means: Means, label: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """Every measure of one model; nan where the data do not define it.

    Args:
        means: of all shards.
        label: of all rows [R].
        score: of all rows [R].
    """
    values = {measure: means.get(measure, (math.nan, 0.0))[0] for measure in MEASURES}
    return {**values, "auc": auc(label, score)}
