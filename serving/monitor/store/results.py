"""Answers of the store: what `query` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ranker.divergence import Interval, OddOne
from serving.monitor.requests import Array


@dataclass(frozen=True)
class Freshness:
    """The newest round of a stream. `age` in seconds; `time` None: there is none."""

    stream: str
    time: int | None
    age: float | None
    duration: float
    requests: int
    probe: str
    rounds: int


@dataclass(frozen=True)
class ReplicaNow:
    """A replica as last seen."""

    replica: str
    version: int
    labels: Mapping[str, str]
    first_seen: int
    last_seen: int


@dataclass(frozen=True)
class Measured:
    """A measure with its interval, floor and excess over the floor; `n` requests, `rounds` rounds."""

    label: str
    value: Interval
    floor: Interval | None
    excess: Interval
    n: int
    rounds: int


@dataclass(frozen=True)
class Verdict:
    """What the first sentence of the dashboard is made of."""

    freshness: Freshness
    measures: Mapping[str, Measured]
    replicas: tuple[ReplicaNow, ...]
    coverage: Mapping[str, float]


@dataclass(frozen=True)
class Cellwise:
    """One pair in the matrix. `excess` is over the floor of its two replicas."""

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
class Matrix:
    """One measure between all pairs of replicas; `values`, `excess` and `n` are [M, M], nan (0) where nothing is known."""

    label: str
    replicas: tuple[str, ...]
    values: Array
    excess: Array
    n: Array
    cells: tuple[Cellwise, ...]


@dataclass(frozen=True)
class Point:
    """A measure over [time, time + resolution)."""

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
    points: tuple[Point, ...]


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
class EventRow:
    """A mark on the time axis."""

    time: int
    kind: str
    replica: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AlertRow:
    """An alert, as it stands."""

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
