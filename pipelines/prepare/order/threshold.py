"""The split by time: the exact moment from which on rows are held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

_BITS = 16

Chunks = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]
"""Gives, each time it is called, all rows in chunks of (time float64 [n], order uint64 [n])."""


def threshold(chunks: Chunks, share: float) -> tuple[int, int] | None:
    """Finds the first held-out row by (time, order) such that `round(share * rows)` rows are held out.

    A radix selection: each pass over the chunks settles 16 bits of the key, so memory does not grow with the rows.

    Args:
        chunks: the rows; orders are distinct.
        share: of the rows to hold out.

    Returns:
        (time key, order) of the first held-out row; None if no row is to be held out.
    """
    total = sum(len(times) for times, _ in chunks())
    held = round(share * total)
    if held == 0:
        return None
    rank = total - held
    time, rank = _select(lambda: (time_keys(times) for times, _ in chunks()), rank)
    order, _ = _select(
        lambda: (orders[time_keys(times) == np.uint64(time)] for times, orders in chunks()), rank
    )
    return time, order


def is_held_out(times: np.ndarray, orders: np.ndarray, first: tuple[int, int] | None) -> np.ndarray:
    """Which rows lie at or after the first held-out row: bool [n]."""
    if first is None:
        return np.zeros(len(times), bool)
    keys = time_keys(times)
    time, order = np.uint64(first[0]), np.uint64(first[1])
    return (keys > time) | ((keys == time) & (orders >= order))


def time_keys(times: np.ndarray) -> np.ndarray:
    """Finite float64 times as uint64 keys in the same order."""
    bits = (times + 0.0).view(np.uint64)  # -0.0 becomes 0.0
    return np.where(bits >> np.uint64(63), ~bits, bits | np.uint64(1 << 63))


def _select(keys: Callable[[], Iterator[np.ndarray]], rank: int) -> tuple[int, int]:
    """The key with `rank` smaller or earlier ones, and its rank among its equals."""
    prefix = 0
    for shift in range(64 - _BITS, -1, -_BITS):
        counts = np.zeros(1 << _BITS, np.int64)
        for chunk in keys():
            if shift + _BITS < 64:
                chunk = chunk[chunk >> np.uint64(shift + _BITS) == np.uint64(prefix)]
            digits = (chunk >> np.uint64(shift)) & np.uint64((1 << _BITS) - 1)
            counts += np.bincount(digits.astype(np.int64), minlength=1 << _BITS)
        ends = np.cumsum(counts)
        digit = int(np.searchsorted(ends, rank, side="right"))
        rank -= int(ends[digit] - counts[digit])
        prefix = prefix << _BITS | digit
    return prefix, rank
