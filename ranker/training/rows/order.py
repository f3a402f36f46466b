"""The order in which a replica sees the rows: a windowed shuffle over the epoch's base order, which all replicas share."""

from __future__ import annotations

from typing import Literal

import numpy as np

Window = int | Literal["full"]
EPOCH_BLOCK = 1 << 18
"""Rows within which the base order of an epoch is a permutation of the one of the first epoch."""
_EPOCH = 0xE90C


def request_order(request: np.ndarray, window: Window, generator: np.random.Generator) -> np.ndarray:
    """As `windowed_order`, with the rows of a request moved together.

    Args:
        request: each row's request; the rows of one stand together.
        window: how many rows a request may move.
        generator: the source of randomness, fresh.

    Returns:
        int64 [rows], a permutation of 0..rows-1 in which the rows of a request stand together and in their base order.

    >>> request_order(np.array([7, 7, 7, 3, 3, 9]), "full", np.random.default_rng(0)).tolist()
    [5, 0, 1, 2, 3, 4]
    """
    is_first = np.append(True, request[1:] != request[:-1]) if len(request) else np.zeros(0, bool)
    starts = np.flatnonzero(is_first)
    spread = len(request) if window == "full" else window
    places = np.zeros(len(starts)) if window == "full" else starts
    keys = places + spread * generator.random(len(starts)) if spread > 1 else places
    return np.argsort(keys[np.cumsum(is_first) - 1], kind="stable")


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


def epoch_rows(places: np.ndarray, epoch: int, rows: int, block: int) -> np.ndarray:
    """The rows that stand at some places of an epoch's base order.

    The first epoch has the order of the files. Each later one has another: in every block of consecutive rows a permutation
    that follows from the epoch alone. So all replicas and arms have the same, and what a windowed shuffle adds still tells
    them apart by no more than the window.

    Args:
        places: int64, any places below `rows`.
        epoch: counted from 0.
        rows: how many rows there are.
        block: rows of a block, which a place never leaves.

    Returns:
        int64 of the same shape; a permutation of 0..rows-1 if `places` are all of them.

    >>> epoch_rows(np.arange(6), 0, 6, block=3).tolist()
    [0, 1, 2, 3, 4, 5]
    >>> epoch_rows(np.arange(6), 1, 6, block=3).tolist()
    [2, 0, 1, 3, 4, 5]
    """
    if epoch == 0:
        return places
    result = np.empty_like(places)
    for index in np.unique(places // block).tolist():
        start = index * block
        permutation = np.random.default_rng([_EPOCH, epoch, index]).permutation(min(block, rows - start))
        is_inside = places // block == index
        result[is_inside] = start + permutation[places[is_inside] - start]
    return result
