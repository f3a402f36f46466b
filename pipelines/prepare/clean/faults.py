"""Which rows of a batch are bad, and why: the first reason found is the one given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class Faults:
    """Collects reasons for the rows of one batch."""

    def __init__(self, rows: int):
        self._bad = np.zeros(rows, bool)
        self._reasons: dict[int, str] = {}

    def add(self, mask: np.ndarray, reason: Callable[[int], str]) -> None:
        """Marks the rows of a bool mask [n]; `reason` is called with the index of each newly bad row."""
        fresh = mask & ~self._bad
        for row in np.flatnonzero(fresh).tolist():
            self._reasons[row] = reason(row)
        self._bad |= fresh

    @property
    def any(self) -> bool:
        """Whether a row is bad."""
        return bool(self._reasons)

    @property
    def good(self) -> np.ndarray:
        """Indices of the good rows."""
        return np.flatnonzero(~self._bad)

    @property
    def bad(self) -> np.ndarray:
        """Indices of the bad rows."""
        return np.flatnonzero(self._bad)

    def reasons(self) -> list[str]:
        """Reasons of the bad rows, in their order."""
        return [self._reasons[row] for row in sorted(self._reasons)]
