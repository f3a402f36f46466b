"""The values that `query` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ranker.divergence import Interval, OddOne, Statistic
from serving.monitor.requests.probe import Array

UNKNOWN_LIMIT = 300.0
"""Seconds after which a round is old whose monitor did not say when the next one comes."""
SHORTEST_LIMIT = 15.0
"""Seconds that a busy machine may delay a round of the shortest interval."""


@dataclass(frozen=True)
class Freshness:
    """The newest round of a stream.

    Attributes:
        stream: `probe` or `live`.
        time: its start, seconds since 1970; None: there is none.
        age: seconds since then.
        duration: seconds it took.
        requests: that were asked.
        probe: hash of the frozen requests.
        rounds: in the last hour.
        interval: seconds from round to round, as its monitor said; None: unknown.
        outcomes: its counts, replica -> kind -> requests.
    """

    stream: str
    time: int | None
    age: float | None
    duration: float
    requests: int
    probe: str
    rounds: int
    interval: float | None = None
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def limit(self) -> float:
        """Seconds after which its monitor must be taken for silent: two rounds are missing.

        A round is stored when it is over, so that in good health the newest is up to an interval and a duration old.
        """
        if self.interval is None:
            return UNKNOWN_LIMIT
        return max(3 * self.interval + self.duration, SHORTEST_LIMIT)

    @property
    def stale(self) -> bool:
        """Whether there was a round, and the next two are missing."""
        return self.age is not None and self.age > self.limit


@dataclass(frozen=True)
class ReplicaNow:
    """A replica as last seen."""

    replica: str
    version: int
    labels: Mapping[str, str]
    first_seen: int
    last_seen: int


@dataclass(frozen=True)
class MeasureEstimate:
    """A measure with its interval, floor and excess over the floor; `n` requests, `rounds` rounds."""

    label: str
    value: Interval
    floor: Interval | None
    excess: Interval
    n: int
    rounds: int


@dataclass(frozen=True)
class Snapshot:
    """The state of a window: every measure over all pairs, replicas by name, coverage."""

    freshness: Freshness
    measures: Mapping[str, MeasureEstimate]
    replicas: tuple[ReplicaNow, ...]
    coverage: Mapping[str, float]


@dataclass(frozen=True)
class PairEstimate:
    """A measure between two replicas. `excess` is over the floor of both."""

    a: str
    b: str
    a_version: int
    b_version: int
    level: str
    value: Interval
    excess: Interval
    n: int
    rounds: int


@dataclass(frozen=True)
class ReplicaEstimate:
    """A replica's mean over its pairs with all others (`component`: its own noise). `excess` is over its floor."""

    replica: str
    version: int
    value: Interval
    excess: Interval
    n: int


@dataclass(frozen=True)
class Matrix:
    """One measure between all pairs of replicas; `values`, `excess` and `n` are [M, M], nan (0) where nothing is known."""

    label: str
    replicas: tuple[str, ...]
    values: Array
    excess: Array
    n: Array
    cells: tuple[PairEstimate, ...]


@dataclass(frozen=True)
class LinePoint:
    """A measure over some rounds; `time` is their mean time."""

    time: int
    value: float
    low: float
    high: float
    n: int
    rounds: int


@dataclass(frozen=True)
class Line:
    """One series' points in the order of time. A refresh begins another line."""

    kind: str
    a: str
    b: str
    a_version: int
    b_version: int
    level: str
    feature: str
    value: str
    resolution: int
    points: tuple[LinePoint, ...]


@dataclass(frozen=True)
class SliceRow:
    """A measure over one part of the requests."""

    feature: str
    value: str
    measured: Interval
    n: int


@dataclass(frozen=True)
class Component:
    """A replica's own noise variance (log-odds squared)."""

    replica: str
    version: int
    value: Interval
    n: int


@dataclass(frozen=True)
class OddOneOut:
    """Components of all replicas, and those that stand out after Holm's correction."""

    components: tuple[Component, ...]
    odd: tuple[OddOne, ...]


@dataclass(frozen=True)
class Rung:
    """A measure at one level of the noise ladder, over the pairs at that level."""

    level: str
    value: Interval
    pairs: int
    n: int


@dataclass(frozen=True)
class CountRow:
    """Requests of a replica by kind (`asked`, `answered`, and errors) in [time, time + resolution)."""

    time: int
    replica: str
    kind: str
    count: int


@dataclass(frozen=True)
class SeriesTotal:
    """Sums of one stream's series of a kind since the store began; `b` is `a` of a replica against itself."""

    stream: str
    kind: str
    a: str
    b: str
    statistics: Mapping[str, Statistic]
    rounds: int


@dataclass(frozen=True)
class EventRow:
    """A mark on the time axis."""

    time: int
    kind: str
    replica: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AlertRow:
    """An alert, as it stands; `id` is its row (None: the store does not have it)."""

    id: int | None
    rule: str
    labels: Mapping[str, str]
    severity: str
    state: str
    started: int
    fired: int | None
    resolved: int | None
    updated: int
    notified: str
    silenced: bool
    value: float | None
    threshold: float | None
    summary: str
    acknowledged: int | None = None
    acknowledged_by: str | None = None

    @property
    def muted(self) -> bool:
        """Whether nobody is to be notified: it is silenced, or somebody has taken it on."""
        return self.silenced or self.acknowledged is not None
