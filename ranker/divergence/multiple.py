"""Testing many replicas and pairs at once: 28 pairs at 5% each give a false alarm 76% of the time."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from ranker.divergence.bits import Array
from ranker.divergence.statistics import Statistic
from ranker.errors import UserError

Key = TypeVar("Key")


def normal_tail(z: float) -> float:
    """Probability that a standard normal exceeds z.

    Example:
        >>> round(normal_tail(1.6449), 4)
        0.05
    """
    return math.erfc(z / math.sqrt(2)) / 2


def exceeds(statistic: Statistic, limit: float) -> float:
    """One-sided p-value of "the measure is at most `limit`"; 1 with fewer than two requests.

    0/1 measures use the null's standard error (the score test, to match Wilson's interval).
    """
    if statistic.n < 2:
        return 1.0
    error = statistic.standard_error
    if statistic.zero_or_one and 0 < limit < 1:
        error = math.sqrt(limit * (1 - limit) / statistic.n)
    excess = statistic.value - limit
    return normal_tail(excess / error) if error > 0 else float(excess <= 0)


def holm(p_values: Sequence[float] | Array) -> Array:
    """P-values adjusted for testing them all: rejecting those <= alpha errs at all with chance <= alpha.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise UserError(f"`p_values` must be probabilities [n]. Received: {p_values!r}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)) if len(p) else p
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def replicas_then_pairs(
    replicas: Mapping[str, Statistic],
    pairs: Mapping[tuple[str, str], Statistic],
    limit: float,
    *,
    alpha: float = 0.05,
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Which replicas, then which of their pairs, exceed a limit: M tests first, pairs only where one fired.

    Args:
        replicas: replica -> statistic of the mean over its pairs.
        pairs: pair -> statistic.
        limit: what the measure may be.
        alpha: chance of any false finding when nothing exceeds the limit.

    Returns:
        Adjusted p-values of the replicas found, and of the pairs found among theirs.
    """
    replica_p_values = _rejected(
        {name: exceeds(statistic, limit) for name, statistic in replicas.items()}, alpha
    )
    pair_p_values = {
        pair: exceeds(s, limit)
        for pair, s in pairs.items()
        if pair[0] in replica_p_values or pair[1] in replica_p_values
    }
    return replica_p_values, _rejected(pair_p_values, alpha)


def _rejected(p_values: dict[Key, float], alpha: float) -> dict[Key, float]:
    adjusted = holm(list(p_values.values()))
    return {key: float(p) for key, p in zip(p_values, adjusted, strict=True) if p <= alpha}
