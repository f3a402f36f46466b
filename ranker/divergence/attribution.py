"""Which replica is the odd one: the noise of each replica, from differences between pairs only."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.bits import Array
from ranker.divergence.multiple import holm, normal_tail
from ranker.divergence.statistics import Statistic
from ranker.errors import UserError


def noise_components(squared: ArrayLike) -> Array:
    """Noise variance of each replica from the mean squared differences of log-odds between replicas.

    Formula: s2_i = (r_i - S / (M - 1)) / (M - 2); r_i = sum_j D2_ij, S = sum_(i<j) D2_ij, M >= 3
    Range: any float; with independent noise E D2_ij = s2_i + s2_j, so an estimate near 0 may fall below it.

    Args:
        squared: D2, symmetric [M, M]; the diagonal is ignored.

    Returns:
        float64 [M].

    Raises:
        UserError: fewer than 3 replicas, or not a square matrix.

    Example:
        >>> noise_components([[0, 2, 4], [2, 0, 4], [4, 4, 0]]).tolist()
        [1.0, 1.0, 3.0]
    """
    d2 = np.asarray(squared, dtype=np.float64)
    if d2.ndim != 2 or d2.shape[0] != d2.shape[1] or len(d2) < 3:
        raise UserError(f"`squared` must be [M, M] with M >= 3. Received: shape {d2.shape}")
    d2 = (
        d2 * (1 - np.eye(len(d2)))
        if np.isfinite(np.diag(d2)).all()
        else np.where(np.eye(len(d2)) > 0, 0.0, d2)
    )
    rows = d2.sum(axis=1)
    return (rows - rows.sum() / 2 / (len(d2) - 1)) / (len(d2) - 2)


def component_numerators(squared: Mapping[tuple[int, int], Array], replicas: Sequence[int]) -> Array:
    """`noise_components` request by request: it is linear, so sums over requests give estimate and variance.

    Args:
        squared: pair of positions -> sum of squared differences over each request's candidates [N].
        replicas: the positions that take part, at least 3.

    Returns:
        float64 [replicas, N]: with the numbers of candidates as weights, the terms of a `Statistic`.
    """
    m = len(replicas)
    terms = {pair: row for pair, row in squared.items() if pair[0] in replicas and pair[1] in replicas}
    total = sum(terms.values())
    rows = np.stack([np.asarray(sum(row for pair, row in terms.items() if i in pair)) for i in replicas])
    return (rows - total / (m - 1)) / (m - 2)


class OddOne(NamedTuple):
    """A replica whose noise stands out: its variance, that over the median, and an adjusted p-value."""

    replica: str
    component: float
    ratio: float
    p_value: float


def odd_ones(
    components: Mapping[str, Statistic], *, factor: float = 3.0, alpha: float = 0.05
) -> list[OddOne]:
    """Replicas whose noise variance is over `factor` times the median, after Holm; noisiest first.

    Args:
        components: replica -> its `component` statistic (at least 3 replicas, else nothing is odd).
        factor: how many times the median of all replicas' components is too many.
        alpha: chance of naming any replica when none is odd.
    """
    names = [name for name, statistic in components.items() if statistic.n > 1]
    if len(names) < 3:
        return []
    values = np.array([components[name].value for name in names])
    errors = np.array([components[name].standard_error for name in names])
    middle = int(np.argsort(values)[len(values) // 2])  # the upper median of an even number: conservative
    median = max(float(np.median(values)), 0.0)
    p_values = []
    for value, error in zip(values, errors, strict=True):
        spread = math.hypot(error, factor * errors[middle])
        excess = value - factor * median
        p_values.append(normal_tail(excess / spread) if spread > 0 else float(excess <= 0))
    adjusted = holm(p_values)
    odd_replicas = [
        OddOne(name, float(value), float(value / median) if median > 0 else math.inf, float(p))
        for name, value, p in zip(names, values, adjusted, strict=True)
        if p <= alpha
    ]
    return sorted(odd_replicas, key=lambda odd: -odd.component)
