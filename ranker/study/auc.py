"""AUC as a sum over requests, for intervals that know that rows of one request go together."""

from __future__ import annotations

import numpy as np


def request_components(labels: np.ndarray, scores: np.ndarray, request: np.ndarray) -> np.ndarray:
    """Each request's influence on the AUC, float64 [requests].

    With F the share of negatives a positive beats (ties one half) and G the share of positives a negative loses to,
    the AUC's first-order change is mean over positives of (F - auc) plus mean over negatives of (G - auc); these
    terms are summed by request. Their squares, summed, estimate the AUC's variance with the request as unit.

    Source: Obuchowski, "Nonparametric analysis of clustered ROC curve data", 1997; DeLong et al., 1988.

    Args:
        labels: 0 or 1 [rows].
        scores: probabilities [rows].
        request: 0..n-1 [rows].

    >>> request_components(np.array([1, 0, 1, 0]), np.array([.9, .5, .6, .7]), np.array([0, 0, 1, 1])).tolist()
    [0.25, -0.25]
    """
    positive = labels > 0
    high, low = np.sort(scores[positive]), np.sort(scores[~positive])

    def below(values: np.ndarray, among: np.ndarray) -> np.ndarray:
        return (np.searchsorted(among, values, "left") + np.searchsorted(among, values, "right")) / 2

    influence = np.empty(len(scores))
    influence[positive] = below(scores[positive], low) / len(low)
    influence[~positive] = 1.0 - below(scores[~positive], high) / len(high)
    auc = influence[positive].mean()
    influence -= auc
    influence[positive] /= len(high)
    influence[~positive] /= len(low)
    return np.bincount(request, weights=influence)
