"""Inversions of a pair by tenths of the gap of the two items, as the monitor counts them once an hour."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlalchemy.orm import aliased

from ranker.divergence import Interval
from serving.monitor.store.cells import load_window
from serving.monitor.store.database import Store
from serving.monitor.store.schema import Series, SubjectTable
from serving.monitor.store.selection import Selection

_TENTHS = range(1, 11)


@dataclass(frozen=True)
class Gap:
    """A tenth of the item pairs by their gap.

    Attributes:
        low, high: gap of log-odds, from and to, the mean over rounds; the last is open.
        observed: share of item pairs inverted.
        excess: that, beyond what the replicas' noise explains.
        n: requests that have item pairs of this tenth.
    """

    low: float
    high: float
    observed: Interval
    excess: Interval
    n: int

    @property
    def predicted(self) -> float:
        """Share that noise explains."""
        return max(self.observed.value - self.excess.value, 0.0)


def gaps(store: Store, selection: Selection) -> tuple[Gap, ...]:
    """The inversions of the pair `a` and `b` by gap over [start, end), at the newest versions, the smallest gap first.

    Empty if they were never counted.
    """
    first, second = aliased(SubjectTable), aliased(SubjectTable)
    names = first.replica.in_((selection.a, selection.b)), second.replica.in_((selection.a, selection.b))
    with store.read() as connection:
        rows = load_window(connection, selection, Series.kind == "gaps", *names, sides=(first, second))
    # the series of the newest versions; stores made before there were tenths have others
    whole = next((row.statistics() for row in reversed(rows) if "gap@tenth-1" in row.labels), None)
    if whole is None:
        return ()
    lows = [whole[f"gap@tenth-{tenth}"].value for tenth in _TENTHS]
    return tuple(
        Gap(low, high, observed.interval(), whole[f"excess_inversion@tenth-{tenth}"].interval(), observed.n)
        for tenth, low, high in zip(_TENTHS, lows, [*lows[1:], math.inf], strict=True)
        if (observed := whole[f"observed_inversion@tenth-{tenth}"]).n
    )
