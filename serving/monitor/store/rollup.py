"""Rolls cells up from minutes to ten minutes, hours and days, and drops them after their retention.

A coarse cell is computed anew from the finer ones, so that doing it twice changes nothing. `rolled_up` says up to
where that is done; a round that comes late moves it back. Cells belong to a series, and a series to one version of
each side: a roll-up never crosses a version.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, func, insert, select, update

from serving.monitor.store import packing
from serving.monitor.store.database import Store
from serving.monitor.store.schema import (
    DAY,
    HOUR,
    MINUTE,
    TEN_MINUTES,
    AlertTable,
    Cell,
    Count,
    Event,
    Layout,
    RolledUp,
    Round,
    Series,
)

# lets a time range be found in the key (resolution, series, time): a look-up a series instead of a scan of the table
_ANY_SERIES = Cell.series.in_(select(Series.id))

STEPS = ((MINUTE, TEN_MINUTES), (TEN_MINUTES, HOUR), (HOUR, DAY))
"""(from, to) resolutions, in seconds."""


@dataclass(frozen=True)
class Retention:
    """How long cells are kept, by resolution; and rounds, marks and alerts. Seconds."""

    minute: int = 48 * HOUR
    ten_minutes: int = 14 * DAY
    hour: int = 180 * DAY
    rounds: int = 14 * DAY
    history: int = 400 * DAY

    def of(self, resolution: int) -> int:
        """Seconds that a resolution's cells are kept."""
        return {MINUTE: self.minute, TEN_MINUTES: self.ten_minutes, HOUR: self.hour}[resolution]


def roll_up(store: Store, now: float, retention: Retention | None = None) -> None:
    """Completes every coarse cell whose time is over, then drops what is too old. Running it again changes nothing.

    Args:
        store: the store.
        now: seconds since 1970.
        retention: how long to keep what.
    """
    retention = retention or Retention()
    rolled = False
    for fine, coarse in STEPS:
        end = int(now) // coarse * coarse
        # one coarse cell a transaction: the store is never locked for long, and a kill loses one step
        while (start := _first_pending(store, fine, coarse, end)) is not None:
            with store.write() as connection:
                _roll_cell(connection, fine, coarse, start)
                _set_until(connection, coarse, start + coarse)
            rolled = True
    if rolled:
        _drop(store, int(now), retention)


def _drop(store: Store, now: int, retention: Retention) -> None:
    with store.write() as connection:
        for fine, coarse in STEPS:
            kept_from = min(now - retention.of(fine), _until(connection, coarse))
            connection.execute(
                delete(Cell).where(Cell.resolution == fine, _ANY_SERIES, Cell.time < kept_from)
            )
            connection.execute(delete(Count).where(Count.resolution == fine, Count.time < kept_from))
        connection.execute(delete(Round).where(Round.time < now - retention.rounds))
        connection.execute(delete(Event).where(Event.time < now - retention.history))
        connection.execute(
            delete(AlertTable).where(
                AlertTable.state == "resolved", AlertTable.updated < now - retention.history
            )
        )


def reopen(connection: Connection, time: int) -> None:
    """Says that cells at `time` changed: coarse cells over it are to be computed again."""
    for _, coarse in STEPS:
        start = time - time % coarse
        connection.execute(
            update(RolledUp).where(RolledUp.resolution == coarse, RolledUp.until > start).values(until=start)
        )


def _first_pending(store: Store, fine: int, coarse: int, end: int) -> int | None:
    """Start of the first coarse cell that is over, not computed, and has finer cells; None if none."""
    with store.read() as connection:
        since = _until(connection, coarse)
        first = connection.execute(
            select(func.min(Count.time)).where(
                Count.resolution == fine, Count.time >= since, Count.time < end
            )
        ).scalar()
    return None if first is None else first // coarse * coarse


def _until(connection: Connection, resolution: int) -> int:
    return connection.execute(select(RolledUp.until).where(RolledUp.resolution == resolution)).scalar() or 0


def _set_until(connection: Connection, resolution: int, until: int) -> None:
    if not connection.execute(
        update(RolledUp).where(RolledUp.resolution == resolution).values(until=until)
    ).rowcount:
        connection.execute(insert(RolledUp).values(resolution=resolution, until=until))


def _roll_cell(connection: Connection, fine: int, coarse: int, start: int) -> None:
    inside = (Cell.time >= start, Cell.time < start + coarse)
    rows = connection.execute(
        select(Cell.series, Cell.time, Cell.rounds, Cell.elapsed, Cell.sums, Cell.histogram, Layout.labels)
        .join(Series, Series.id == Cell.series)
        .join(Layout, Layout.id == Series.layout)
        .where(Cell.resolution == fine, _ANY_SERIES, *inside)
        .order_by(Cell.series)
    ).all()
    cells = []
    for series, group in groupby(rows, key=lambda row: row.series):
        parts = list(group)
        sums = packing.unpack_sums([part.sums for part in parts]).sum(axis=0)
        measures = len(parts[0].labels)
        histograms = [
            packing.unpack_histograms(part.histogram, measures)
            for part in parts
            if part.histogram is not None
        ]
        rounds = sum(part.rounds for part in parts)
        histogram = packing.pack_histograms(np.sum(histograms, axis=0)) if histograms else None
        cells.append(
            {
                "resolution": coarse,
                "series": series,
                "time": start,
                "rounds": rounds,
                "sums": packing.pack_sums(sums),
                "elapsed": sum(elapsed_since(start, part, fine) for part in parts),
                "histogram": histogram,
            }
        )
    connection.execute(delete(Cell).where(Cell.resolution == coarse, _ANY_SERIES, Cell.time == start))
    if cells:
        connection.execute(insert(Cell), cells)
    inside_count = (Count.resolution == fine, Count.time >= start, Count.time < start + coarse)
    totals = connection.execute(
        select(Count.stream, Count.replica, Count.kind, func.sum(Count.count))
        .where(*inside_count)
        .group_by(Count.stream, Count.replica, Count.kind)
    ).all()
    connection.execute(delete(Count).where(Count.resolution == coarse, Count.time == start))
    if totals:
        keys = ("stream", "replica", "kind", "count")
        connection.execute(
            insert(Count),
            [
                {"resolution": coarse, "time": start} | dict(zip(keys, map(_as_plain, row), strict=True))
                for row in totals
            ],
        )


def elapsed_since(start: int, cell: Any, resolution: int) -> int:
    """Seconds from `start` to each round of a cell, added up; rounds of an old cell stand in its middle."""
    inside = cell.elapsed if cell.elapsed is not None else cell.rounds * (resolution // 2)
    return int(inside + cell.rounds * (cell.time - start))


def _as_plain(value: object) -> object:
    return value if isinstance(value, str) else int(value)  # type: ignore[call-overload]  # PostgreSQL sums to Decimal
