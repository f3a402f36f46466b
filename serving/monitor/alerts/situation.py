"""What the store knows that a rule needs: read for one moment, now or in the past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ranker.divergence import Statistic
from serving.monitor.alerts.rules import Rule
from serving.monitor.measurement.record import LIVE
from serving.monitor.store import Store, query
from serving.monitor.store.cells import (
    Row,
    floor_rows,
    load_window,
    newest_group,
    past_floor_rows,
    replica_rows,
)
from serving.monitor.store.results import EventRow
from serving.monitor.store.schema import DAY, MINUTE, Series
from serving.monitor.store.selection import Selection

Statistics = Mapping[str, Statistic]


@dataclass(frozen=True)
class Situation:
    """Facts at one moment; what a rule does not read is empty.

    Attributes:
        now: seconds since 1970.
        age: seconds since the newest round; None: there is none.
        limit: seconds after which the monitor must be taken for silent, from its own interval.
        whole: measure -> mean over pairs, in the rule's window.
        floors: replica -> measure -> how it differs from itself, in the window.
        floors_before: the same over the day before the window.
        components: replica -> its own noise.
        versions: replica -> served version, of the newest set.
        counts: replica -> kind -> requests, in the window.
        events: marks of the last hour, the newest first.
    """

    now: float
    age: float | None = None
    limit: float = 0.0
    whole: Statistics = field(default_factory=dict)
    floors: Mapping[str, Statistics] = field(default_factory=dict)
    floors_before: Mapping[str, Statistics] = field(default_factory=dict)
    components: Statistics = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    events: tuple[EventRow, ...] = ()


def situation(store: Store, rule: Rule, now: float) -> Situation:
    """Reads what a rule needs."""
    fresh = query.freshness(store, Selection(now, stream=rule.stream))
    # a monitor with long intervals would have no round in a short window
    rule = rule.model_copy(update={"window": max(rule.window, 2 * (fresh.interval or 0.0) + fresh.duration)})
    marks = query.events(store, Selection.between(now - 3600, now + 1))
    moment = Selection(now, window=rule.window, stream=rule.stream)
    in_window = moment.to(end=now + 1)
    if rule.condition == "no_data" or fresh.time is None:
        return Situation(now, fresh.age, fresh.limit if fresh.interval is not None else 0.0, events=marks)
    if rule.condition == "coverage":
        counts: dict[str, dict[str, int]] = {}
        for row in query.error_kinds(store, in_window.to(window=rule.window + 1)):
            counts.setdefault(row.replica, {})[row.kind] = row.count
        return Situation(now, fresh.age, counts=counts, events=marks)
    if fresh.age is not None and fresh.age > max(rule.window, fresh.limit, 15 * MINUTE):
        return Situation(now, fresh.age, events=marks)  # old facts are no facts
    with store.read() as connection:
        everyone = newest_group(connection, moment)
        if everyone is None:
            return Situation(now, fresh.age, events=marks)
        rows = replica_rows(connection, in_window, everyone)
        if rule.condition == "odd_replica":
            components = {row.a: row.statistic("component") for row in rows if "component" in row.labels}
            return Situation(now, fresh.age, components=components, events=marks)
        versions = {row.a: row.a_version for row in rows}
        if rule.condition == "version_skew":
            return Situation(now, fresh.age, versions=versions, events=marks)
        floors = _by_replica(floor_rows(connection, in_window, everyone))
        if rule.condition == "floor_jump":
            past = past_floor_rows(connection, in_window.to(end=now - rule.window, window=DAY))
            return Situation(
                now,
                fresh.age,
                floors=floors,
                floors_before=_by_replica(past),
                versions=versions,
                events=marks,
            )
        # live requests are new all the time: the sequence restarts at fixed times, so that it is one and not many
        window = now % rule.window + 1 if rule.stream == LIVE else rule.window
        whole = load_window(
            connection,
            in_window.to(window=window),
            Series.kind == "all",
            Series.a == everyone,
            Series.feature == "",
        )
    return Situation(
        now,
        fresh.age,
        whole=whole[-1].statistics() if whole else {},
        floors=floors,
        versions=versions,
        events=marks,
    )


def _by_replica(rows: Sequence[Row]) -> dict[str, dict[str, Statistic]]:
    by_replica: dict[str, dict[str, Statistic]] = {}
    for row in rows:
        merged = by_replica.setdefault(row.a, {})
        for label, statistic in row.statistics().items():
            merged[label] = merged[label].merge(statistic) if label in merged else statistic
    return by_replica
