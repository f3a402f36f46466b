"""The split by time: the exact moment from which on rows are held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

_BITS = 16
_DIGITS_EACH = 64 // _BITS
DIGITS = 2 * _DIGITS_EACH
"""Passes over the rows: the digits of the time, then those of the order."""

Chunks = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]
"""Gives, each time it is called, all rows in chunks of (time float64 [n], order uint64 [n])."""


@dataclass(frozen=True)
class RadixSelection:
    """A radix selection of the first held-out row under way: what its settled digits say.

    Attributes:
        rank: rows before it among those that share its settled digits.
        time: the settled digits of its time key, and
        order: of its order.
    """

    rank: int
    time: int = 0
    order: int = 0


def begin(rows: int, share: float) -> RadixSelection | None:
    """The selection in which `round(share * rows)` rows are held out; None if no row is."""
    held = round(share * rows)
    return RadixSelection(rows - held) if held else None


def count_digit(selection: RadixSelection, digit: int, times: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """How many rows, of those that share the settled digits, have each value of the next one: int64 [2**16].

    Args:
        selection: after `digit` digits.
        digit: in [0, `DIGITS`).
        times: float64 [n].
        orders: uint64 [n], distinct over all rows.
    """
    values, prefix = time_keys(times), selection.time
    if digit >= _DIGITS_EACH:
        values, prefix = orders[values == np.uint64(selection.time)], selection.order
    shift = 64 - _BITS * (digit % _DIGITS_EACH + 1)
    if digit % _DIGITS_EACH:
        values = values[values >> np.uint64(shift + _BITS) == np.uint64(prefix)]
    digits = (values >> np.uint64(shift)) & np.uint64((1 << _BITS) - 1)
    return np.bincount(digits.astype(np.int64), minlength=1 << _BITS)


def settle_digit(selection: RadixSelection, digit: int, counts: np.ndarray) -> RadixSelection:
    """The selection with one digit more, by the counts of all rows."""
    ends = np.cumsum(counts)
    value = int(np.searchsorted(ends, selection.rank, side="right"))
    rank = selection.rank - int(ends[value] - counts[value])
    if digit < _DIGITS_EACH:
        return RadixSelection(rank, selection.time << _BITS | value, 0)
    return RadixSelection(rank, selection.time, selection.order << _BITS | value)


def threshold(chunks: Chunks, share: float) -> RadixSelection | None:
    """Finds the first held-out row by (time, order) such that `round(share * rows)` rows are held out.

    Each pass over the chunks settles 16 bits of the key, so memory does not grow with the rows.

    Args:
        chunks: the rows; orders are distinct.
        share: of the rows to hold out.

    Returns:
        The first held-out row; None if no row is to be held out.
    """
    selection = begin(sum(len(times) for times, _ in chunks()), share)
    if selection is None:
        return None
    for digit in range(DIGITS):
        counts = np.zeros(1 << _BITS, np.int64)
        for times, orders in chunks():
            counts += count_digit(selection, digit, times, orders)
        selection = settle_digit(selection, digit, counts)
    return selection


def is_held_out(times: np.ndarray, orders: np.ndarray, first: RadixSelection | None) -> np.ndarray:
    """Which rows lie at or after the first held-out row: bool [n]."""
    if first is None:
        return np.zeros(len(times), bool)
    keys = time_keys(times)
    time, order = np.uint64(first.time), np.uint64(first.order)
    return (keys > time) | ((keys == time) & (orders >= order))


def time_keys(times: np.ndarray) -> np.ndarray:
    """Finite float64 times as uint64 keys in the same order."""
    bits = (times + 0.0).view(np.uint64)  # -0.0 becomes 0.0
    return np.where(bits >> np.uint64(63), ~bits, bits | np.uint64(1 << 63))
