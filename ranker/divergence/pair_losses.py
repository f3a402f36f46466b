"""Logistic losses over the item pairs of long lists in K log K time and K memory, by interpolation.

The loss of a pair is a smooth function of two log-odds: of many rows a few moments say all that float64 holds.
"""

from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev

from ranker.divergence.bits import Array
from ranker.divergence.ranked import LOGIT_LIMIT, logit

PAIRS_UP_TO = 1 << 20
"""Pairs of one request up to which losses are summed one by one."""
_DEGREES = 14
"""Chebyshev polynomials a cell of log-odds, of width 1. The loss has its poles at a distance of pi, so that the error of the
interpolation falls as 12.6 ** -degrees: it is that of float64."""
_ROWS_UP_TO = 512


def logistic_loss_sum(labels: Array, logits: Array, weights: Array) -> float:
    """The sum of w_i w_j ln(1 + exp(l_j - l_i)) over pairs with label i > label j, within 1e-13 of it.

    Rows are divided at a label; of pairs across, each side is known by its moments (the sums of Chebyshev polynomials of its
    log-odds) in every cell; pairs within a side are divided again.
    Source: Greengard and Rokhlin, "A fast algorithm for particle simulations", 1987; Fong and Darve, "The black-box fast
        multipole method", 2009.

    Args:
        labels: float64 [K], descending.
        logits: log-odds as `logit` gives them [K].
        weights: >= 0 [K].

    Example:
        >>> labels = np.array([1.0, 0.0, 0.0])
        >>> round(logistic_loss_sum(labels, np.zeros(3), np.ones(3)), 6)
        1.386294
    """
    levels = np.cumsum(np.append(False, labels[1:] != labels[:-1]))
    total, parts = 0.0, [slice(0, len(labels))]
    while parts:
        part = parts.pop()
        level = levels[part]
        if not len(level) or level[0] == level[-1]:
            continue
        if len(level) <= _ROWS_UP_TO:
            gap = np.logaddexp(0.0, logits[part][None, :] - logits[part][:, None])
            is_pair = level[:, None] < level[None, :]
            total += float(weights[part] @ np.where(is_pair, gap, 0.0) @ weights[part])
            continue
        middle = int(np.searchsorted(level, level[len(level) // 2]))
        middle = part.start + (middle or int(np.searchsorted(level, level[0], side="right")))
        halves = slice(part.start, middle), slice(middle, part.stop)
        higher, lower = (_moments(logits[half], weights[half]) for half in halves)
        total += float(higher @ _kernel() @ lower)
        parts += halves
    return total


def _cells() -> int:
    return 2 * int(np.ceil(logit(1 - LOGIT_LIMIT)))


def _moments(logits: Array, weights: Array) -> Array:
    """Sums of w T_d(x) by cell and degree, x the place in the cell in [-1, 1]: float64 [cells * degrees]."""
    position = logits + _cells() / 2
    cell = np.minimum(position.astype(np.int64), _cells() - 1)
    angle = np.arccos((2 * (position - cell) - 1).clip(-1, 1))
    columns = [
        np.bincount(cell, weights=weights * np.cos(degree * angle), minlength=_cells())
        for degree in range(_DEGREES)
    ]
    return np.stack(columns, axis=1).ravel()


@lru_cache(maxsize=1)
def _kernel() -> Array:
    """The loss between cells, in Chebyshev polynomials of both log-odds: float64 [cells * degrees, cells * degrees]."""
    nodes = chebyshev.chebpts1(_DEGREES)
    # Of values at the nodes the coefficients of the interpolating polynomial.
    fit = np.linalg.inv(chebyshev.chebvander(nodes, _DEGREES - 1))
    places = (np.arange(_cells())[:, None] - _cells() / 2 + (nodes + 1) / 2).ravel()
    values = np.logaddexp(0.0, places[None, :] - places[:, None])
    shaped = values.reshape(_cells(), _DEGREES, _cells(), _DEGREES)
    return np.einsum("da,iajb,eb->idje", fit, shaped, fit).reshape(values.shape)
