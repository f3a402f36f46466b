"""The order of a matrix in which alike replicas stand together. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def clustered(distances: ArrayLike) -> list[int]:
    """Positions in the order of an average-linkage tree, the tightest cluster first.

    Args:
        distances: symmetric [M, M]; nan where nothing is known, which counts as far.

    Example:
        >>> clustered([[0, 9, 1], [9, 0, 9], [1, 9, 0]])
        [0, 2, 1]
    """
    d = np.array(distances, dtype=np.float64)
    if len(d) < 3:
        return list(range(len(d)))
    finite = d[np.isfinite(d)]
    d = np.where(np.isfinite(d), d, (finite.max() if len(finite) else 0.0) + 1.0)
    groups = [[position] for position in range(len(d))]
    while len(groups) > 1:
        _, i, j = min(
            (float(d[np.ix_(groups[i], groups[j])].mean()), i, j)
            for i in range(len(groups))
            for j in range(i + 1, len(groups))
        )
        # the larger group first, and of equal ones the one that was there first: the order is stable from round to round
        larger, smaller = sorted((groups[i], groups[j]), key=lambda group: (-len(group), group))
        groups = [group for place, group in enumerate(groups) if place not in (i, j)] + [larger + smaller]
    return groups[0]
