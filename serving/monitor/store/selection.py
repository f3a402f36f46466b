"""What a query looks at: which time, stream, measure, replicas and slice."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal

from serving.monitor.measurement.record import PROBE
from serving.monitor.store.schema import MINUTE

WINDOW = 15 * MINUTE
"""Default look-back, in seconds, of every query about the present."""
Kind = Literal["all", "pair", "replica", "again", "batch", "refresh", "gaps"]


@dataclass(frozen=True)
class Selection:
    """One selection of what the store has. Every query takes one and ignores what does not concern it.

    A query about the present moves the window back to the newest round before `end`, so that a silent monitor still
    shows its last data. A query of a course looks at [start, end).

    Attributes:
        end: seconds since 1970.
        window: seconds before `end`.
        stream: `probe` or `live`.
        measure: label of a measure.
        kind: which series: over all pairs, of one pair, of a replica, of a replica against itself (`again`, `batch`),
            of two versions (`refresh`), or of inversions by gap.
        a: name of a replica; None: any.
        b: name of another; a pair has no order.
        feature: a slice's feature; empty: all requests.
        value: a slice's value.
        points: most points of a line over time, 1 to 2000.
        confidence: of the intervals, above 0 and below 1.

    Example:
        >>> Selection.between(40, 100, stream="live").window
        60
    """

    end: float
    _: KW_ONLY
    window: float = WINDOW
    stream: str = PROBE
    measure: str = ""
    kind: Kind = "all"
    a: str | None = None
    b: str | None = None
    feature: str = ""
    value: str = ""
    points: int = 400
    confidence: float = 0.95

    @classmethod
    def between(cls, start: float, end: float, **fields: Any) -> Selection:
        """The selection of [start, end), seconds since 1970; `fields` are the attributes by name."""
        return cls(end, window=end - start, **fields)

    @property
    def start(self) -> float:
        """Where the window begins, seconds since 1970."""
        return self.end - self.window

    def to(self, **fields: Any) -> Selection:
        """This selection with other attributes."""
        return replace(self, **fields)
