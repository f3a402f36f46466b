"""Inversions of a pair by tenths of the gap of the two items, as the monitor counts them once an hour."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlalchemy.orm import aliased

from ranker.divergence import Interval
from serving.monitor.store import Store
from serving.monitor.store.cells import load_window
from serving.monitor.store.schema import Series, SubjectTable

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


def gaps(store: Store, a: str, b: str, start: float, end: float, *, stream: str) -> tuple[Gap, ...]:
    """The newest versions' inversions by gap over [start, end), the smallest gap first; empty if never counted.

    Args:
        store: the monitor's.
        a: name of a replica.
        b: name of another.
        start: seconds since 1970.
        end: not included.
        stream: `probe` or `live`.
    """
    first, second = aliased(SubjectTable), aliased(SubjectTable)
    names = first.replica.in_((a, b)), second.replica.in_((a, b))
    with store.read() as connection:
        rows = load_window(
            connection, stream, end, end - start, Series.kind == "gaps", *names, sides=(first, second)
        )
    # the series of the newest versions; stores made before there were tenths have others
    whole = next((row.statistics(stream) for row in reversed(rows) if "gap@tenth-1" in row.labels), None)
    if whole is None:
        return ()
    lows = [whole[f"gap@tenth-{tenth}"].value for tenth in _TENTHS]
    return tuple(
        Gap(low, high, observed.interval(), whole[f"excess_inversion@tenth-{tenth}"].interval(), observed.n)
        for tenth, low, high in zip(_TENTHS, lows, [*lows[1:], math.inf], strict=True)
        if (observed := whole[f"observed_inversion@tenth-{tenth}"]).n
    )
