"""Queries of rounds, counts, marks and alerts, bounded in time and points."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from sqlalchemy import Connection, func, or_, select

from ranker.divergence import Statistic
from serving.monitor.measurement.record import ALL_REPLICAS, DROPPED, EACH_REPLICA
from serving.monitor.store.cells import (
    MOST_POINTS,
    fleet_members,
    merge,
    newest_group,
    read_totals,
    resolution_for,
    stretches,
)
from serving.monitor.store.database import Store
from serving.monitor.store.results import AlertRow, CountRow, EventRow, Freshness, ReplicaNow, SeriesTotal
from serving.monitor.store.schema import (
    DAY,
    HOUR,
    TOTAL,
    AlertTable,
    Count,
    Event,
    Round,
    SubjectTable,
)
from serving.monitor.store.selection import Selection

_FOREVER = 2**53


def freshness(store: Store, selection: Selection) -> Freshness:
    """The newest round of the stream up to the selection's end, and how many there were in the hour before it."""
    now, stream = selection.end, selection.stream
    with store.read() as connection:
        row = connection.execute(
            select(Round.__table__)
            .where(Round.stream == stream, Round.time <= now)
            .order_by(Round.time.desc())
            .limit(1)
        ).first()
        rounds = connection.execute(
            select(func.count())
            .select_from(Round)
            .where(Round.stream == stream, Round.time > now - HOUR, Round.time <= now)
        ).scalar_one()
        outcomes = dict(row.outcomes or {}) if row is not None else {}
        shared = outcomes.pop(EACH_REPLICA, None)
        if row is not None and shared is not None:
            outcomes = dict.fromkeys(_member_names(connection, row.everyone), shared) | outcomes
    if row is None:
        return Freshness(stream=stream, time=None, age=None, duration=0.0, requests=0, probe="", rounds=0)
    return Freshness(
        stream=stream,
        time=row.time,
        age=max(now - row.time, 0.0),
        duration=row.duration,
        requests=row.requests,
        probe=row.probe,
        rounds=rounds,
        interval=row.interval_seconds,
        outcomes=outcomes,
    )


def _member_names(connection: Connection, everyone: int | None) -> list[str]:
    """The replicas of a fleet."""
    members = fleet_members(connection, everyone) if everyone is not None else []
    rows = connection.execute(
        select(SubjectTable.replica).where(SubjectTable.id.in_(members)).order_by(SubjectTable.replica)
    )
    return list(rows.scalars())


def replicas(store: Store, selection: Selection) -> tuple[ReplicaNow, ...]:
    """Every replica of any stream seen in the day before the selection's end, at the version it served last; by name."""
    with store.read() as connection:
        rows = connection.execute(
            select(SubjectTable.__table__)
            .where(SubjectTable.replica != ALL_REPLICAS, SubjectTable.last_seen > selection.end - DAY)
            .order_by(SubjectTable.replica, SubjectTable.last_seen, SubjectTable.first_seen)
        ).all()
    newest = {
        row.replica: ReplicaNow(row.replica, row.version, row.labels, row.first_seen, row.last_seen)
        for row in rows
    }
    return tuple(newest.values())


def coverage(store: Store, selection: Selection) -> dict[str, float]:
    """Replica -> share of the requests it was asked in the window that it answered well."""
    counts: dict[str, dict[str, int]] = {}
    for row in error_kinds(store, _with_last_second(selection)):
        counts.setdefault(row.replica, {})[row.kind] = row.count
    return {
        replica: kinds.get("answered", 0) / kinds["asked"]
        for replica, kinds in counts.items()
        if kinds.get("asked")
    }


def error_kinds(store: Store, selection: Selection) -> tuple[CountRow, ...]:
    """Sums of the counts by replica and kind over [start, end), to the cell; `time` is the start."""
    totals: Counter[tuple[str, str]] = Counter()
    for (_, replica, kind), count in _counts(store, selection.to(points=800)).items():
        totals[replica, kind] += count
    shared = {
        kind: totals.pop((EACH_REPLICA, kind)) for replica, kind in list(totals) if replica == EACH_REPLICA
    }
    if shared:
        with store.read() as connection:
            names = _member_names(connection, newest_group(connection, selection))
        for name in names:
            for kind, count in shared.items():
                totals[name, kind] += count
    return tuple(
        CountRow(int(selection.start), replica, kind, count)
        for (replica, kind), count in sorted(totals.items())
        if count
    )


def count_course(store: Store, selection: Selection) -> tuple[CountRow, ...]:
    """Counts over time, at the finest resolution of at most the selection's points.

    Of a fleet those that its members share stand under `EACH_REPLICA`; a replica that had others has rows of its own.
    """
    counts = _counts(store, selection)
    with store.read() as connection:
        members = set(_member_names(connection, newest_group(connection, selection)))
    counted_members = {replica for _, replica, _ in counts} & members
    for (time, replica, kind), count in list(counts.items()):
        if replica == EACH_REPLICA:
            for name in counted_members:
                counts[time, name, kind] = counts.get((time, name, kind), 0) + count
    return tuple(CountRow(*key, count) for key, count in sorted(counts.items()) if count)


def _counts(store: Store, selection: Selection) -> dict[tuple[int, str, str], int]:
    """Time, replica and kind -> count, as stored: a fleet's members have differences from `EACH_REPLICA`."""
    resolution = resolution_for(selection)
    bucket = Count.time - Count.time % resolution
    totals: dict[tuple[int, str, str], int] = {}
    with store.read() as connection:
        for step, since, to in stretches(connection, resolution, selection.start, selection.end):
            statement = (
                select(bucket.label("time"), Count.replica, Count.kind, func.sum(Count.count).label("total"))
                .where(Count.resolution == step, Count.time >= since, Count.time < to)
                .where(Count.stream == selection.stream, Count.replica != ALL_REPLICAS)
                .group_by(bucket, Count.replica, Count.kind)
            )
            for row in connection.execute(statement):
                key = (int(row.time), row.replica, row.kind)
                totals[key] = totals.get(key, 0) + int(row.total)
    return totals


def totals(store: Store) -> tuple[tuple[CountRow, ...], tuple[SeriesTotal, ...]]:
    """Running totals since the store began: counts, and one a series of replicas, whatever their versions."""
    with store.read() as connection:
        counts = {
            (row.stream, row.replica, row.kind): row._mapping["count"]
            for row in connection.execute(select(Count.__table__).where(Count.resolution == TOTAL))
        }
        for stream in {stream for stream, replica, _ in counts if replica == EACH_REPLICA}:
            members = set(
                _member_names(connection, newest_group(connection, Selection(_FOREVER, stream=stream)))
            )
            counted_members = {replica for _, replica, _ in counts} & members
            shared = {
                kind: n
                for (of, replica, kind), n in counts.items()
                if (of, replica) == (stream, EACH_REPLICA)
            }
            for name in counted_members:
                for kind, count in shared.items():
                    counts[stream, name, kind] = counts.get((stream, name, kind), 0) + count
        rows = read_totals(connection)
    merged: dict[tuple[str, str, str, str], tuple[dict[str, Statistic], int]] = {}
    for row in rows:
        key = (row.stream, row.kind, row.a, row.b if row.kind != "replica" else row.a)
        before, rounds = merged.get(key, ({}, 0))
        merged[key] = (merge((before, row.statistics(as_stored=True))), rounds + row.rounds)
    return (
        tuple(
            CountRow(0, replica, f"{stream}/{kind}", n)
            for (stream, replica, kind), n in sorted(counts.items())
        ),
        tuple(
            SeriesTotal(*key, statistics=statistics, rounds=rounds)
            for key, (statistics, rounds) in sorted(merged.items())
        ),
    )


def mirrored(store: Store, selection: Selection) -> dict[str, int]:
    """Mirrored calls by outcome (`record.MIRRORED`) over [start, end), to the cell; empty if no monitor took any."""
    outcomes: dict[str, int] = {}
    resolution = resolution_for(selection.to(points=MOST_POINTS))
    with store.read() as connection:
        for step, since, to in stretches(connection, resolution, selection.start, selection.end):
            rows = connection.execute(
                select(Count.kind, func.sum(Count.count).label("total"))
                .where(Count.resolution == step, Count.time >= since, Count.time < to)
                .where(Count.replica == ALL_REPLICAS, Count.kind.startswith("mirrored_", autoescape=True))
                .group_by(Count.kind)
            )
            for row in rows:
                outcome = row.kind.removeprefix("mirrored_")
                outcomes[outcome] = outcomes.get(outcome, 0) + int(row.total)
    return outcomes


def dropped_rounds(store: Store) -> int:
    """Rounds of both streams that the store did not take, since it began."""
    with store.read() as connection:
        total = connection.execute(
            select(func.sum(Count.count)).where(
                Count.resolution == TOTAL, Count.replica == ALL_REPLICAS, Count.kind == DROPPED
            )
        ).scalar()
    return int(total or 0)


def events(store: Store, selection: Selection, *, limit: int = 500) -> tuple[EventRow, ...]:
    """Marks in [start, end) of any stream, the newest first."""
    with store.read() as connection:
        rows = connection.execute(
            select(Event.__table__)
            .where(Event.time >= selection.start, Event.time < selection.end)
            .order_by(Event.time.desc())
            .limit(_bounded(limit))
        ).all()
    return tuple(EventRow(row.time, row.kind, row.replica, row.detail) for row in rows)


def alerts(
    store: Store, *, state: str | None = None, since: float = 0, limit: int = 200
) -> tuple[AlertRow, ...]:
    """Alerts that changed since a time, the newest first; `state` is `pending`, `firing` or `resolved`."""
    where = [AlertTable.updated >= since] + ([AlertTable.state == state] if state else [])
    with store.read() as connection:
        rows = connection.execute(
            select(AlertTable.__table__)
            .where(*where)
            .order_by(AlertTable.started.desc(), AlertTable.id.desc())
            .limit(_bounded(limit))
        ).all()
    return tuple(
        AlertRow(**{key: value for key, value in row._mapping.items() if key != "key"}) for row in rows
    )


def alerts_at(store: Store, now: float, *, limit: int = 500) -> tuple[AlertRow, ...]:
    """Alerts that fired or were pending at a moment, as they stood then; the newest first."""
    standing = (AlertTable.started <= now, or_(AlertTable.resolved.is_(None), AlertTable.resolved > now))
    with store.read() as connection:
        rows = connection.execute(
            select(AlertTable.__table__)
            .where(*standing)
            .order_by(AlertTable.started.desc(), AlertTable.id.desc())
            .limit(_bounded(limit))
        ).all()
    alerts = [AlertRow(**{key: value for key, value in row._mapping.items() if key != "key"}) for row in rows]
    return tuple(
        replace(
            alert,
            state="firing" if alert.fired is not None and alert.fired <= now else "pending",
            resolved=None,
        )
        for alert in alerts
    )


def _with_last_second(selection: Selection) -> Selection:
    """The window and the second of its end, in which the newest round may stand."""
    return Selection.between(selection.start, selection.end + 1, stream=selection.stream)


def _bounded(limit: int) -> int:
    return max(1, min(int(limit), MOST_POINTS))
