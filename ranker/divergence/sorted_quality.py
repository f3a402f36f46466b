"""AUC and calibration of more rows than memory holds: rows are added up by score, parts of them merge, and are read once.

`sum_by_score` makes a table [n, 1 + C] of some rows: distinct scores, increasing, and sums of C columns at each.
`merge_by_score` reads such tables a block at a time and gives the table of all rows in parts. `SortedQuality` takes the
parts in order. Sums of whole numbers are exact in float64, so that without weights the AUC of 0 and 1 is that of all rows
at once.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ranker.divergence.bits import Array

ECE_BINS = 15
BlockReader = Callable[[int, int], Array]
"""Rows [start, start + count) of a table of `sum_by_score`, fewer at its end."""


def sum_by_score(scores: Array, *columns: Array) -> Array:
    """Distinct scores, increasing, and the sums of the columns at each, float64 [n, 1 + C].

    Args:
        scores: [R].
        columns: [R] each.

    Example:
        >>> sum_by_score(np.array([0.5, 0.25, 0.5]), np.array([1, 2, 4])).tolist()
        [[0.25, 2.0], [0.5, 5.0]]
    """
    order = np.argsort(scores, kind="stable")
    ordered = np.asarray(scores, np.float64)[order]
    if not len(ordered):
        return np.zeros((0, 1 + len(columns)))
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return np.stack([ordered[starts], *(np.add.reduceat(c[order], starts) for c in columns)], axis=1)


def merge_by_score(tables: Sequence[BlockReader], rows: int = 1 << 20) -> Iterator[Array]:
    """The table of all rows in parts, whose scores are above those of the parts before.

    Memory: about `rows` rows of the tables, and twice as many while they are sorted.

    Args:
        tables: of `sum_by_score`, with the same columns.
        rows: in memory, divided evenly between the tables.

    Example:
        >>> a, b = np.array([[0.25, 2.0], [0.5, 5.0]]), np.array([[0.5, 1.0], [0.75, 3.0]])
        >>> readers = [lambda at, count, t=t: t[at : at + count] for t in (a, b)]
        >>> [part.tolist() for part in merge_by_score(readers)]
        [[[0.25, 2.0], [0.5, 6.0], [0.75, 3.0]]]
    """
    count = max(rows // max(len(tables), 1), 1024)
    cursors = [_Cursor(table, count) for table in tables]
    while cursors := [cursor for cursor in cursors if cursor.fill()]:
        # What lies above the end of a table that goes on may come from it, too.
        limit = min(cursor.complete_up_to for cursor in cursors)
        part = np.concatenate([cursor.take(limit) for cursor in cursors])
        yield sum_by_score(part[:, 0], *part[:, 1:].T)


class _Cursor:
    """A place in a table."""

    def __init__(self, table: BlockReader, count: int):
        self._table, self._count = table, count
        self._block: Array = np.zeros((0, 1))
        self._next, self._ended = 0, False

    def fill(self) -> bool:
        """Reads the next block if there is no row in memory; returns whether there is one then."""
        if not len(self._block) and not self._ended:
            self._block = self._table(self._next, self._count)
            self._next += len(self._block)
            self._ended = len(self._block) < self._count
        return len(self._block) > 0

    @property
    def complete_up_to(self) -> float:
        """The score up to which all rows of the table are in memory."""
        return math.inf if self._ended else float(self._block[-1, 0])

    def take(self, limit: float) -> Array:
        """The rows in memory whose score is at most `limit`."""
        end = int(np.searchsorted(self._block[:, 0], limit, side="right"))
        part, self._block = self._block[:end], self._block[end:]
        return part


class SortedQuality:
    """`auc`, `calibration` and `ece` of `ranker.divergence.quality`, from rows in the order of their scores.

    Args:
        total: the sum of all rows' weights, by which `ece` divides them into bins.

    Example:
        >>> quality = SortedQuality(4.0)
        >>> quality.add(np.array([0.125, 0.5]), np.array([1.0, 2.0]), np.array([0.0, 1.0]))
        >>> quality.add(np.array([0.875]), np.array([1.0]), np.array([1.0]))
        >>> quality.auc, quality.calibration, quality.ece
        (0.875, 1.0, 0.0625)
    """

    def __init__(self, total: float):
        self._total = total
        self._weight = self._positive = self._predicted = self._wins = 0.0
        self._gaps = np.zeros(ECE_BINS)

    def add(self, scores: Array, weights: Array, positives: Array) -> None:
        """Adds rows that were added up by score.

        Args:
            scores: increasing [n], all above those that were added before.
            weights: sums of the rows' weights [n].
            positives: sums of the rows' weights times labels [n].
        """
        if not weights.any():
            return
        negatives = weights - positives
        before = self._weight - self._positive + np.cumsum(negatives) - negatives / 2
        self._wins += float((positives * before).sum())
        middle = self._weight + np.cumsum(weights) - weights / 2
        bins = np.minimum((ECE_BINS * middle / self._total).astype(np.int64), ECE_BINS - 1)
        self._gaps += np.bincount(bins, weights=weights * scores - positives, minlength=ECE_BINS)
        self._weight += float(weights.sum())
        self._positive += float(positives.sum())
        self._predicted += float((weights * scores).sum())

    @property
    def auc(self) -> float:
        """See `ranker.divergence.auc`; nan with one class."""
        pairs = self._positive * (self._weight - self._positive)
        return self._wins / pairs if pairs > 0 else math.nan

    @property
    def calibration(self) -> float:
        """See `ranker.divergence.calibration`; nan without positives."""
        return self._predicted / self._positive if self._positive > 0 else math.nan

    @property
    def ece(self) -> float:
        """See `ranker.divergence.ece`; nan without rows."""
        return float(np.abs(self._gaps).sum() / self._weight) if self._weight > 0 else math.nan
