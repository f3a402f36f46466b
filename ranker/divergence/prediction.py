"""Prediction difference (PD): how far two models' probabilities for the same examples are apart.

Every function takes `a` and `b`, probabilities of E examples [E] by two models, and returns their mean
difference, a float; for n requests of K candidates [n, K] it returns one value a request, float64 [n].
nan where there is no example. For more than two replicas report the mean over pairs.

Raises:
    UserError: (all) a probability is NaN, infinite or outside [0, 1]; the shapes differ.
"""

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.bits import Array, count_bits, row_sums
from ranker.divergence.pairs import Pair, as_pair
from ranker.errors import UserError


def pd_abs(a: ArrayLike | Pair, b: ArrayLike | None = None) -> Array:
    """Mean absolute difference of the predictions.

    Formula: pd_abs = mean |a - b|
    Range: [0, 1]. 0: equal predictions. 1: one model says 0 wherever the other says 1.
    Source: Shamir and Coviello, "Anti-Distillation: Improving Reproducibility of Deep Networks", 2020.

    Example:
        >>> round(float(pd_abs([0.2, 0.5], [0.3, 0.5])), 6)
        0.05
    """
    pair = as_pair(a, b, probabilities=True)
    return pair.report(pair.absolute / np.maximum(pair.size, 1), 1)


def rpd_sym(a: ArrayLike | Pair, b: ArrayLike | None = None) -> Array:
    """Relative prediction difference, symmetric: the difference over the two models' expected prediction.

    Formula: rpd_sym = mean 2 |a - b| / (a + b), 0 where both are 0
    Range: [0, 2]. 0: equal predictions. 2: one model says 0 wherever the other does not.
    Source: Shamir and Lin, "Real World Large Scale Recommendation Systems Reproducibility and Smooth
        Activations", 2022; the same number as TFMA's SymmetricPredictionDifference.

    Example:
        >>> round(float(rpd_sym([0.2], [0.3])), 6)
        0.4
    """
    pair = as_pair(a, b, probabilities=True)
    total = pair.a.scores + pair.b.scores
    np.maximum(
        total, np.finfo(np.float64).tiny, out=total
    )  # where it is 0 so is |a - b|: any divisor gives 0
    return pair.report(_mean(pair, np.divide(pair.difference, total, out=total)) * 2, 1)


def rpd_ratio(a: ArrayLike | Pair, b: ArrayLike | None = None) -> Array:
    """Relative prediction difference as a ratio of means: robust where predictions are near 0.

    Formula: rpd_ratio = mean |a - b| / mean (a + b) / 2
    Range: [0, 2]. 0: equal predictions. 2: wherever one model predicts anything, the other says 0.
    Source: ratio estimator, Cochran, "Sampling Techniques", 1977, chapter 6.

    Example:
        >>> round(float(rpd_ratio([0.2, 0.0], [0.3, 0.0])), 6)
        0.4
    """
    pair = as_pair(a, b, probabilities=True)
    return pair.report(_ratio(pair.absolute, expected_prediction(pair)), 1)


def pd_logit(a: ArrayLike | Pair, b: ArrayLike | None = None) -> Array:
    """Mean absolute difference of the log-odds; probabilities are clipped to [1e-7, 1 - 1e-7].

    Formula: pd_logit = mean |logit a - logit b|
    Range: [0, 32.3]. 0: equal predictions. 1: the odds differ by a factor of e.
    Source: the scale on which replicas of one recipe differ by about the same amount for every prediction.

    Example:
        >>> round(float(pd_logit([0.2], [0.3])), 6)
        0.538997
    """
    pair = as_pair(a, b, probabilities=True)
    return pair.report(_mean(pair, pair.logit_difference), 1)


def pd_logit_squared(a: ArrayLike | Pair, b: ArrayLike | None = None) -> Array:
    """Mean squared difference of the log-odds, D2 in the attribution of noise to replicas.

    Formula: pd_logit_squared = mean (logit a - logit b)^2
    Range: [0, 1040]. 0: equal predictions. In expectation the sum of the two replicas' noise variances.
    Source: two-way layout, Searle, Casella and McCulloch, "Variance Components", 1992.

    Example:
        >>> round(float(pd_logit_squared([0.2], [0.3])), 6)
        0.290517
    """
    pair = as_pair(a, b, probabilities=True)
    squares = np.einsum("ij,ij->i", pair.logit_difference, pair.logit_difference)
    return pair.report(squares / np.maximum(pair.size, 1), 1)


def bias(a: ArrayLike | Pair, b: ArrayLike | None = None) -> Array:
    """Signed difference of the mean predictions: tells a calibration shift from irreproducibility.

    Formula: bias = (mean a - mean b) / mean (a + b) / 2
    Range: [-2, 2]. 0: the same mean prediction. 1: a predicts three times what b does. Antisymmetric.
    Source: ratio estimator, Cochran, "Sampling Techniques", 1977, chapter 6.

    Example:
        >>> round(float(bias([0.3, 0.3], [0.2, 0.3])), 6)
        0.181818
    """
    pair = as_pair(a, b, probabilities=True)
    return pair.report(_ratio(pair.a.mass - pair.b.mass, expected_prediction(pair)), 1)


def flip_rate(a: ArrayLike | Pair, b: ArrayLike | None = None, *, threshold: float = 0.5) -> Array:
    """Share of examples that the two models put on different sides of a threshold.

    Formula: flip_rate@t = mean 1[(a > t) != (b > t)]
    Range: [0, 1]. 0: every decision is the same. 1: every decision differs.
    Source: "churn" of Milani Fard et al., "Launch and Iterate: Reducing Prediction Churn", 2016.

    Raises:
        UserError: also if the threshold is outside [0, 1].

    Example:
        >>> float(flip_rate([0.4, 0.6, 0.7, 0.1], [0.6, 0.6, 0.7, 0.1]))
        0.25
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"`threshold` must be a probability in [0, 1]. Received: threshold={threshold!r}")
    pair = as_pair(a, b, probabilities=True)
    flipped = count_bits(pair.a.over(threshold) ^ pair.b.over(threshold))
    return pair.report(flipped / np.maximum(pair.size, 1), 1)


def d1(probabilities: ArrayLike) -> float:
    """Mean absolute deviation of M models from their mean (derived: it grows as replicas are added).

    Formula: D1 = mean_e (1/M) sum_m |p_em - pbar_e|
    Range: [0, 1/2]. 0: equal predictions. 1/2: half of the models say 0 and half say 1.
    Source: Shamir and Coviello, "Anti-Distillation", 2020, section 2. With M = 2 it is half of pd_abs.

    Args:
        probabilities: [M, E], one row a model.

    Example:
        >>> round(d1([[0.2], [0.3]]), 6)
        0.05
    """
    p = _models(probabilities)
    return float(np.abs(p - p.mean(axis=0)).mean()) if p.size else float("nan")


def relative_d1(probabilities: ArrayLike) -> float:
    """Mean absolute deviation of M models from their mean, relative to that mean (derived, as `d1`).

    Formula: relative D1 = mean_e (1/M) sum_m |p_em - pbar_e| / pbar_e, 0 where pbar_e is 0
    Range: [0, 2). 0: equal predictions. With M = 2 it is half of rpd_sym.
    Source: as `d1`.

    Args:
        probabilities: [M, E], one row a model.

    Example:
        >>> round(relative_d1([[0.2], [0.3]]), 6)
        0.2
    """
    p = _models(probabilities)
    mean = p.mean(axis=0)
    return float((np.abs(p - mean) / np.where(mean > 0, mean, 1)).mean()) if p.size else float("nan")


def expected_prediction(pair: Pair) -> Array:
    """Sum over a request's candidates of the pair's mean prediction: its expected clicks, float64 [n]."""
    return (pair.a.mass + pair.b.mass) / 2


def _mean(pair: Pair, per_example: Array) -> Array:
    return row_sums(per_example) / np.maximum(pair.size, 1)


def _ratio(numerator: Array, denominator: Array) -> Array:
    return numerator / np.where(denominator > 0, denominator, 1)


def _models(probabilities: ArrayLike) -> Array:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[0] < 1:
        raise UserError(f"`probabilities` must have shape [models, examples]. Received: shape {p.shape}")
    if not np.all((p >= 0) & (p <= 1)):
        raise UserError("`probabilities` must be in [0, 1]. Received: " + str(p[~((p >= 0) & (p <= 1))][0]))
    return p
