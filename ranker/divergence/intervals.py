"""Confidence intervals from sums over requests. The request is the sampling unit, never the item pair."""

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ranker.errors import UserError


class Interval(NamedTuple):
    """A value and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def standing(interval: Interval, limit: float) -> Literal["within", "above", "undecided"]:
    """An interval against a limit: `within` if all of it is at most the limit, `above` if none of it is.

    A value that is not defined (nan) is undecided.

    Example:
        >>> standing(Interval(0.03, 0.02, 0.05), 0.05), standing(Interval(0.03, 0.02, 0.05), 0.04)
        ('within', 'undecided')
    """
    if interval.high <= limit:
        return "within"
    return "above" if interval.low > limit else "undecided"


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
    return Interval(successes / n, *_score_ends(successes, n, z))


def _score_ends(successes: float, n: int, z: float) -> tuple[float, float]:
    p, shrink = successes / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


@lru_cache(maxsize=4096)
def quantile_of_student(level: float, freedom: float) -> float:
    """Two-sided quantile of Student's t: it lies within +-t with probability `level`; infinite without freedom.

    Right to 4 digits for 3 degrees of freedom, to 6 for 10 and more; the quantile of the normal in the limit.

    Source: Hill, "Algorithm 396: Student's t-quantiles", Communications of the ACM, 1970.

    Example:
        >>> round(quantile_of_student(0.95, 9), 4), round(quantile_of_student(0.95, 2), 4)
        (2.2622, 4.3027)
    """
    z, tail = quantile_of_normal(level), 1 - level
    if freedom < 1:
        return math.inf
    if freedom == 1:
        return 1 / math.tan(tail * math.pi / 2)
    if freedom == 2:
        return math.sqrt(2 / (tail * (2 - tail)) - 2)
    a = 1 / (freedom - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * freedom
    y = (d * tail) ** (2 / freedom)
    if y > 0.05 + a:
        if freedom < 5:
            c += 0.3 * (freedom - 4.5) * (0.6 - z)
        c += (((-0.05 * d * z - 5) * -z - 7) * -z - 2) * -z + b
        square = z * z
        y = (((((0.4 * square + 6.3) * square + 36) * square + 94.5) / c - square - 3) / b + 1) * z
        y = math.expm1(a * y * y)
    else:
        inner = ((freedom + 6) / (freedom * y) - 0.089 * d - 0.822) * (freedom + 2) * 3
        y = ((1 / inner + 0.5 / (freedom + 4)) * y - 1) * (freedom + 1) / (freedom + 2) + 1 / y
    return math.sqrt(freedom * y)


def nonnegative(value: float, standard_error: float, n: int, level: float = 0.95) -> Interval:
    """Interval of the mean of a measure that is never negative, such as a swap rate.

    The mean p and the variance v of one request are those of n requests of which m have the value c and the others
    0, with c = p + v / p and m = n p / c. The interval is c times Wilson's of m in n, with Student's quantile: where
    few requests have all of the measure, it reaches as far up as these few allow. Its upper end is at least that
    of Student's interval, since values above c may be there. One request alone leaves the upper end open.

    Example:
        >>> [round(x, 4) for x in nonnegative(0.1, 0.01, 100)]
        [0.1, 0.0806, 0.1198]
    """
    if math.isnan(value) or value <= 0:
        return Interval(value, value, value)
    if math.isnan(standard_error):
        return Interval(value, 0.0, math.inf)
    t = quantile_of_student(level, n - 1)
    size = value + (n - 1) * standard_error**2 / value
    low, high = _score_ends(min(n * value / size, n), n, t)
    return Interval(value, min(size * low, value), max(size * high, value + t * standard_error))


def normal(value: float, standard_error: float, level: float = 0.95, n: int | None = None) -> Interval:
    """Value +- z standard errors, or with n requests Student's t; unbounded where the standard error is unknown (nan).

    Example:
        >>> [round(x, 3) for x in normal(0.1, 0.01)]
        [0.1, 0.08, 0.12]
    """
    z = quantile_of_normal(level) if n is None else quantile_of_student(level, n - 1)
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


def paired_difference(
    higher: tuple[float, float],
    lower: tuple[float, float],
    covariance: float,
    n: int,
    bound: float,
    level: float = 0.95,
) -> Interval:
    """Mean difference d of two models' values on the same n requests, from its two parts; within +-bound.

    The difference of a request is higher minus lower, of which one is 0: how far the first model's value is above
    the second's, and how far below. Each part's mean gets Wilson's interval with Student's quantile (see
    `nonnegative`), and the intervals of the two, which exclude each other, are put together by Newcombe's
    "square and add" for correlated proportions; 1/4 of a request is added on either side. Exchanging the models
    changes the sign only. Of 0/1 values, whose parts are the discordant requests, the coverage at 95% is at least
    95% for any n and rates (computed exactly in the tests), also where no request or one is discordant.

    Args:
        higher: mean of the part where the first model is higher, and that mean's standard error.
        lower: the same of the other part.
        covariance: of the two means; not positive.
        n: requests.
        bound: the largest difference that one request can have.
        level: of the interval.

    Source: Newcombe, "Improved confidence intervals for the difference between binomial proportions based on
        paired data", 1998, method 10, applied to the two discordant cells.

    Example:
        >>> [round(x, 4) for x in paired_difference((1 / 2000, 1 / 2000), (0.0, 0.0), 0.0, 2000, 1.0)]
        [0.0005, -0.0016, 0.003]
    """
    if n == 0:
        return Interval(math.nan, math.nan, math.nan)
    value = higher[0] - lower[0]
    if n == 1:
        return Interval(value, -bound, bound)
    t = quantile_of_student(level, n - 1)
    # What a request adds to its part where it adds anything; of a part without any, as in the other part.
    sizes = [mean + (n - 1) * error**2 / mean if mean > 0 else 0.0 for mean, error in (higher, lower)]
    sizes = [min(size or max(sizes) or bound, bound) for size in sizes]
    ends = []
    for (mean, _), size in zip((higher, lower), sizes, strict=True):
        low, high = _score_ends(min(n * mean / size, n), n, t)
        ends.append((mean - min(size * low, mean), max(size * high, mean) - mean))
    (up_low, up_high), (down_low, down_high) = ends
    errors = higher[1] * lower[1]
    correlation = max(min(covariance / errors, 0.0), -1.0) if errors > 0 else 0.0

    def apart(a: float, b: float) -> float:
        return math.sqrt(max(a * a + b * b - 2 * correlation * a * b, 0.0))

    step = max(sizes) / (4 * n)
    low, high = value - apart(up_low, down_high) - step, value + apart(up_high, down_low) + step
    return Interval(value, max(low, -bound), min(high, bound))


def poisson_bootstrap_quantile(
    values: ArrayLike, q: float, level: float = 0.95, *, replicates: int = 400, seed: int = 0
) -> Interval:
    """Quantile of the requests' values with a Poisson bootstrap interval: each request weighs Poisson(1).

    Source: Chamandy et al., "Estimating uncertainty for massive data streams", 2012.

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
