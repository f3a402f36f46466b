"""The order in which a replica sees the rows: a windowed shuffle over the fixed base order."""

from __future__ import annotations

from typing import Literal

import numpy as np


def windowed_order(rows: int, window: int | Literal["full"], generator: np.random.Generator) -> np.ndarray:
    """A random order in which no row moves more than `window` places from its base position.

    Row i gets the key i + u_i with u_i uniform in [0, window), and rows are sorted by key. Like a shuffle
    buffer of that size it mixes neighbours only, but it is exact about how far, and has no tail: the buffer
    lets single rows stay behind for ever.

    Args:
        rows: how many rows, >= 0.
        window: 1 keeps the base order; `full` (or a window of at least `rows`) is a uniform permutation.
        generator: the source of randomness.

    Returns:
        int64 [rows], a permutation of 0..rows-1.

    >>> windowed_order(5, 1, np.random.default_rng(0)).tolist()
    [0, 1, 2, 3, 4]
    """
    if window == "full" or window >= rows:
        return generator.permutation(rows)
    if window == 1:
        return np.arange(rows)
    return np.argsort(np.arange(rows) + window * generator.random(rows), kind="stable")
