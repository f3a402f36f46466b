"""Confidence intervals from sums over requests. The request is the sampling unit, never the item pair."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ranker.errors import UserError


class Interval(NamedTuple):
    """A value and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def quantile_of_normal(level: float) -> float:
    """Two-sided quantile z: a standard normal lies within +-z with probability `level`.

    Example:
        >>> round(quantile_of_normal(0.95), 4)
        1.96
    """
    if not 0 < level < 1:
        raise UserError(f"`level` must be between 0 and 1. Received: level={level!r}")
    return NormalDist().inv_cdf((1 + level) / 2)


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion; nan without observations.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Example:
        >>> round(wilson(0, 1000).high, 6)
        0.003827
    """
    if n < 0 or not 0 <= successes <= n:
        raise UserError(f"`successes` must be within 0..n. Received: successes={successes}, n={n}")
    z = quantile_of_normal(level)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan)
    p, shrink = successes / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(p, low, high)


def normal(value: float, standard_error: float, level: float = 0.95) -> Interval:
    """Value +- z standard errors; unbounded where the standard error is unknown (nan).

    Example:
        >>> [round(x, 3) for x in normal(0.1, 0.01)]
        [0.1, 0.08, 0.12]
    """
    z = quantile_of_normal(level)
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan)
    if math.isnan(standard_error):
        return Interval(value, -math.inf, math.inf)
    return Interval(value, value - z * standard_error, value + z * standard_error)


def ratio_standard_error(
    n: int, total: float, total_sq: float, weight: float, weight_sq: float, cross: float
) -> float:
    """Standard error of a ratio of sums R = total / weight over n requests, by the delta method.

    Formula: sqrt(n / (n - 1) sum (x - R y)^2) / sum y. With y = 1 it is s / sqrt(n).
    Source: Cochran, "Sampling Techniques", 1977, section 6.3; the infinitesimal jackknife over requests.

    Example:
        >>> round(ratio_standard_error(4, 1.0, 1.0, 4.0, 4.0, 1.0), 6)
        0.25
    """
    if n < 2:
        return math.nan
    if weight <= 0:
        return 0.0
    ratio = total / weight
    squares = max(total_sq - 2 * ratio * cross + ratio * ratio * weight_sq, 0.0)
    # below the rounding error of the three sums it is zero
    if squares <= 1e-13 * (total_sq + ratio * ratio * weight_sq):
        squares = 0.0
    return math.sqrt(n / (n - 1) * squares) / weight


def difference(a: Interval, b: Interval) -> Interval:
    """Difference a - b of independent estimates (conservative for positively correlated ones).

    Source: "square and add" of Newcombe, "Interval estimation for the difference between independent
        proportions", 1998; keeps the asymmetry of Wilson's interval.

    Example:
        >>> [round(x, 3) for x in difference(wilson(50, 1000), wilson(0, 1000))]
        [0.05, 0.038, 0.065]
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    return Interval(value, low, value + math.hypot(a.high - a.value, b.value - b.low))


def poisson_bootstrap_quantile(
    values: ArrayLike, q: float, level: float = 0.95, *, replicates: int = 400, seed: int = 0
) -> Interval:
    """Quantile of the requests' values with a Poisson bootstrap interval: each request weighs Poisson(1).

    Source: Chamandy et al., "Estimating uncertainty for massive data streams", 2012. For stored
        statistics see `Histogram.quantile_interval`.

    Example:
        >>> poisson_bootstrap_quantile(range(101), 0.5, seed=1).value
        50.0
    """
    v = np.sort(np.asarray(values, dtype=np.float64).ravel())
    v = v[~np.isnan(v)]
    if not 0 <= q <= 1:
        raise UserError(f"`q` must be in [0, 1]. Received: q={q!r}")
    quantile_of_normal(level)
    if not len(v):
        return Interval(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    draws = np.empty(replicates)
    for i in range(replicates):
        cumulative = rng.poisson(1.0, len(v)).cumsum()
        draws[i] = v[min(np.searchsorted(cumulative, max(q * cumulative[-1], 1e-9)), len(v) - 1)]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.quantile(v, q)), float(low), float(high))
