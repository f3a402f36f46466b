"""The record of a round for the store: sums by series, counts by replica, marks. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from ranker.config import fingerprint
from ranker.divergence import Statistic
from serving.monitor.requests.probe import Array

PROBE, LIVE = "probe", "live"


class Subject(NamedTuple):
    """A replica at one served version; `fingerprint` tells models apart that bear the same number."""

    replica: str
    version: int
    fingerprint: str = ""


ALL_REPLICAS = "*"
"""The replica name of the group of all replicas of a round."""


EACH_REPLICA = "(each other replica)"
"""The replica name of counts that every replica of a fleet has which has none under its own name."""


DROPPED = "rounds_dropped"
"""The kind of count, of all replicas, of rounds that the store did not take."""

MIRRORED = ("seen", "sampled", "dropped", "unreadable")
"""Outcomes of mirrored calls: all that arrived; those of a round's sample; those that were lost (broken off, too large);
those of the sample that cannot be asked of every replica."""


def mirrored_counts(outcomes: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """Calls by outcome as a round's counts: of all replicas."""
    return {(ALL_REPLICAS, f"mirrored_{outcome}"): count for outcome, count in outcomes.items()}


def group(subjects: list[Subject]) -> Subject:
    """The group of these subjects, as a subject: the mean over all pairs has a series of its own.

    Example:
        >>> group([Subject("a", 1), Subject("b", 1)]) == group([Subject("b", 1), Subject("a", 1)])
        True
    """
    return Subject(ALL_REPLICAS, 0, fingerprint(sorted(subjects)))


class SeriesKey(NamedTuple):
    """The key of one line of a chart; see `store.schema.Series`."""

    stream: str
    kind: str
    a: Subject
    b: Subject
    level: str = ""
    feature: str = ""
    value: str = ""
    probe: str = ""


@dataclass(frozen=True)
class Mark:
    """Something that happened at a time: `kind` is `refresh` or `incompatible`; `key` says what happened."""

    key: str
    kind: str
    replica: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class FleetRecord:
    """What a round says of each replica of a fleet. A fleet's pairs change from round to round and are not kept.

    Attributes:
        everyone: the group of the members.
        members: the replicas as they were last seen, those that are silent in this round too.
        sums: label -> the six sums of each member, float64 [M, 6]; zeros of one that is silent. A label after
            `FLOOR_OF` is of the replica against itself.
    """

    everyone: Subject
    members: tuple[Subject, ...]
    sums: Mapping[str, Array]


FLOOR_OF = "floor of "
"""Before a measure's label: how a replica of a fleet differs from itself."""


@dataclass(frozen=True)
class RoundRecord:
    """One round, measured.

    Attributes:
        key: unique; a round with a known key is not written again.
        stream: `probe` or `live`.
        time: seconds since 1970 (UTC) at its start.
        duration: seconds.
        requests: requests asked.
        probe: hash of the frozen requests; empty for live traffic.
        subjects: the replicas that answered, with labels.
        statistics: series -> measure's label -> sums.
        counts: (replica, kind) -> requests; kinds are `asked`, `answered` and those of `answers.ERROR_KINDS`; of all
            replicas the mirrored calls by outcome.
        marks: what happened.
        interval: seconds from round to round; None: unknown, or there is no next one.
        fleet: of many replicas: what is measured of each of them.
    """

    key: str
    stream: str
    time: int
    duration: float
    requests: int
    probe: str
    subjects: Mapping[Subject, Mapping[str, str]]
    statistics: Mapping[SeriesKey, Mapping[str, Statistic]]
    counts: Mapping[tuple[str, str], int]
    marks: tuple[Mark, ...] = ()
    interval: float | None = None
    fleet: FleetRecord | None = None

    @cached_property
    def outcomes(self) -> dict[str, dict[str, int]]:
        """The counts by replica: replica -> kind -> requests."""
        outcomes: dict[str, dict[str, int]] = {}
        for (replica, kind), count in self.counts.items():
            if replica != ALL_REPLICAS:
                outcomes.setdefault(replica, {})[kind] = int(count)
        return outcomes
