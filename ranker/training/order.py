"""The order in which a replica sees the rows: a windowed shuffle over the fixed base order."""

from __future__ import annotations

from typing import Literal

import numpy as np

Window = int | Literal["full"]


def windowed_order(
    rows: int, window: Window, generator: np.random.Generator, start: int = 0, stop: int | None = None
) -> np.ndarray:
    """A random order in which no row moves more than `window` places from its base position.

    Row i gets the key i + u_i with u_i uniform in [0, window), and rows are sorted by key. Like a shuffle
    buffer of that size it mixes neighbours only, but it is exact about how far, and has no tail: the buffer
    lets single rows stay behind for ever.

    Any part of the order can be had alone, at the price of that part and two windows: places [start, stop) hold
    rows of (start - window, stop + window), and the generator jumps to their keys.

    Args:
        rows: how many rows, >= 0.
        window: 1 keeps the base order; `full` (or a window of at least `rows`) is a uniform permutation.
        generator: the source of randomness, fresh; NumPy's default (PCG64) or another that can `advance`.
        start: the first place wanted, and
        stop: the one after the last; default: all.

    Returns:
        int64 [stop - start]: `order[start:stop]` of the order of all rows, a permutation of 0..rows-1.

    >>> windowed_order(5, 1, np.random.default_rng(0)).tolist()
    [0, 1, 2, 3, 4]
    >>> windowed_order(9, 4, np.random.default_rng(0)).tolist()
    [1, 2, 0, 3, 4, 6, 5, 7, 8]
    >>> windowed_order(9, 4, np.random.default_rng(0), 4, 7).tolist()
    [4, 6, 5]
    """
    stop = rows if stop is None else min(stop, rows)
    if window == "full" or window >= rows:
        return generator.permutation(rows)[start:stop]
    if window == 1:
        return np.arange(start, stop)
    # Rows before `first` have keys below `start`, and so at least places before it; rows from `last` on come later
    # than place `stop - 1`, whose key is below `stop - 1 + window`.
    first, last = max(0, start - window), min(rows, stop + window)
    if first > 0:
        generator.bit_generator.advance(first)  # type: ignore[attr-defined]
    keys = np.arange(first, last) + window * generator.random(last - first)
    order = first + np.argsort(keys, kind="stable")
    return order[start - first : stop - first]
