"""Inversions of a pair by the gap of the two items, as the monitor counts them once an hour."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlalchemy.orm import aliased

from ranker.divergence import Interval
from serving.monitor.store import Store
from serving.monitor.store.cells import load_window
from serving.monitor.store.schema import Series, Subject

_OBSERVED, _EXCESS = "observed_inversion@", "excess_inversion@"


@dataclass(frozen=True)
class Gap:
    """One bin of the gap.

    Attributes:
        low, high: gap of log-odds, from and to; the last is open.
        observed: share of item pairs inverted.
        excess: that, beyond what the replicas' noise explains.
        n: requests with such a pair of items.
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
    left, right = aliased(Subject), aliased(Subject)
    names = left.replica.in_((a, b)), right.replica.in_((a, b))
    with store.read() as connection:
        rows = load_window(
            connection, stream, end, end - start, Series.kind == "gaps", *names, sides=(left, right)
        )
    if not rows:
        return ()
    whole = rows[-1]
    statistics = whole.statistics(stream)
    lows = sorted(float(label.removeprefix(_OBSERVED)) for label in statistics if label.startswith(_OBSERVED))
    found = []
    for low, high in zip(lows, [*lows[1:], math.inf], strict=True):
        observed, excess = statistics[f"{_OBSERVED}{low:g}"], statistics[f"{_EXCESS}{low:g}"]
        if observed.n:
            found.append(Gap(low, high, observed.interval(), excess.interval(), observed.n))
    return tuple(found)
