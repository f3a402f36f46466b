"""Queries of rounds, counts, marks and alerts, bounded in time and points."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import func, or_, select

from ranker.divergence import Statistic
from serving.monitor.record import ALL_REPLICAS, DROPPED, PROBE
from serving.monitor.store.cells import MOST_POINTS, merge, read_cells, resolution_for, stretches
from serving.monitor.store.database import Store
from serving.monitor.store.results import AlertRow, CountRow, EventRow, Freshness, ReplicaNow
from serving.monitor.store.schema import (
    DAY,
    HOUR,
    MINUTE,
    TOTAL,
    AlertTable,
    Count,
    Event,
    Round,
    SubjectTable,
)

WINDOW = 15 * MINUTE
"""Default look-back, in seconds, of every query about the present."""


def freshness(store: Store, now: float, stream: str = PROBE) -> Freshness:
    """The newest round, and how many there were in the last hour."""
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
    if row is None:
        return Freshness(stream, None, None, 0.0, 0, "", 0)
    return Freshness(
        stream,
        row.time,
        max(now - row.time, 0.0),
        row.duration,
        row.requests,
        row.probe,
        rounds,
        row.interval_seconds,
        row.outcomes or {},
    )


def replicas(store: Store, now: float, since: float = DAY) -> tuple[ReplicaNow, ...]:
    """Every replica seen in the last `since` seconds, at the version it served last; by name."""
    with store.read() as connection:
        rows = connection.execute(
            select(SubjectTable.__table__)
            .where(SubjectTable.replica != ALL_REPLICAS, SubjectTable.last_seen > now - since)
            .order_by(SubjectTable.replica, SubjectTable.last_seen, SubjectTable.first_seen)
        ).all()
    newest = {
        row.replica: ReplicaNow(row.replica, row.version, row.labels, row.first_seen, row.last_seen)
        for row in rows
    }
    return tuple(newest.values())


def coverage(store: Store, now: float, *, stream: str = PROBE, window: float = WINDOW) -> dict[str, float]:
    """Replica -> share of the requests it was asked in the window that it answered well."""
    counts: dict[str, dict[str, int]] = {}
    for row in error_kinds(store, now - window, now + 1, stream=stream):
        counts.setdefault(row.replica, {})[row.kind] = row.count
    return {
        replica: kinds.get("answered", 0) / kinds["asked"]
        for replica, kinds in counts.items()
        if kinds.get("asked")
    }


def error_kinds(store: Store, start: float, end: float, *, stream: str = PROBE) -> tuple[CountRow, ...]:
    """Sums of the counts by replica and kind over [start, end), to the cell; `time` is the start."""
    totals: dict[tuple[str, str], int] = {}
    for row in count_course(store, start, end, stream=stream, points=800):
        totals[row.replica, row.kind] = totals.get((row.replica, row.kind), 0) + row.count
    return tuple(
        CountRow(int(start), replica, kind, count) for (replica, kind), count in sorted(totals.items())
    )


def count_course(
    store: Store, start: float, end: float, *, stream: str = PROBE, points: int = 400
) -> tuple[CountRow, ...]:
    """Counts over time, at the finest resolution of at most `points` points."""
    resolution = resolution_for(start, end, points, end)
    bucket = Count.time - Count.time % resolution
    totals: dict[tuple[int, str, str], int] = {}
    with store.read() as connection:
        for step, since, to in stretches(connection, resolution, start, end):
            statement = (
                select(bucket.label("time"), Count.replica, Count.kind, func.sum(Count.count).label("total"))
                .where(Count.resolution == step, Count.time >= since, Count.time < to)
                .where(Count.stream == stream, Count.replica != ALL_REPLICAS)
                .group_by(bucket, Count.replica, Count.kind)
            )
            for row in connection.execute(statement):
                key = (int(row.time), row.replica, row.kind)
                totals[key] = totals.get(key, 0) + int(row.total)
    return tuple(CountRow(*key, count) for key, count in sorted(totals.items()))


def totals(
    store: Store,
) -> tuple[tuple[CountRow, ...], tuple[tuple[str, str, str, str, dict[str, Statistic], int], ...]]:
    """Running totals since the store began: counts, and (stream, kind, a, b, statistics, rounds) a pair of replicas."""
    with store.read() as connection:
        counts = connection.execute(select(Count.__table__).where(Count.resolution == 0)).all()
        rows = read_cells(connection, None, TOTAL, 0, 1, ())
    merged: dict[tuple[str, str, str, str], tuple[dict[str, Statistic], int]] = {}
    for row in rows:
        key = (row.stream, row.kind, row.a, row.b if row.kind != "replica" else row.a)
        before, rounds = merged.get(key, ({}, 0))
        merged[key] = (merge((before, row.statistics(""))), rounds + row.rounds)
    return (
        tuple(CountRow(0, row.replica, f"{row.stream}/{row.kind}", row._mapping["count"]) for row in counts),
        tuple((*key, statistics, rounds) for key, (statistics, rounds) in sorted(merged.items())),
    )


def mirrored(store: Store, start: float, end: float) -> dict[str, int]:
    """Mirrored calls by outcome (`record.MIRRORED`) over [start, end), to the cell; empty if no monitor took any."""
    outcomes: dict[str, int] = {}
    resolution = resolution_for(start, end, MOST_POINTS, end)
    with store.read() as connection:
        for step, since, to in stretches(connection, resolution, start, end):
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


def events(store: Store, start: float, end: float, *, limit: int = 500) -> tuple[EventRow, ...]:
    """Marks in [start, end), the newest first."""
    with store.read() as connection:
        rows = connection.execute(
            select(Event.__table__)
            .where(Event.time >= start, Event.time < end)
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


def _bounded(limit: int) -> int:
    return max(1, min(int(limit), MOST_POINTS))
