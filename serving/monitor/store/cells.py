"""Reads cells by series and time: coarse cells as far as they are rolled up, then finer ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from sqlalchemy import Connection, select
from sqlalchemy.orm import aliased

from ranker.divergence import Statistic
from ranker.divergence.statistics import COLUMNS
from ranker.errors import UserError
from serving.monitor.measurement.record import ALL_REPLICAS, FLOOR_OF, PROBE
from serving.monitor.requests.probe import Array
from serving.monitor.store import packing
from serving.monitor.store.rollup import Retention, elapsed_since
from serving.monitor.store.schema import (
    DAY,
    FLEET,
    HOUR,
    MEMBERS,
    MINUTE,
    TEN_MINUTES,
    TOTAL,
    Cell,
    Layout,
    RolledUp,
    Round,
    Series,
    SubjectTable,
)
from serving.monitor.store.selection import Selection

MOST_POINTS = 2000
RESOLUTIONS = (MINUTE, TEN_MINUTES, HOUR, DAY)
_SIDES = aliased(SubjectTable), aliased(SubjectTable)  # making them takes longer than a small query


def resolution_for(selection: Selection) -> int:
    """The finest resolution, in seconds, with at most the selection's points that is kept as long as its start is ago.

    Raises:
        UserError: end before start, `points` out of range.
    """
    if not selection.start < selection.end:
        raise UserError(
            f"a time range must end after it starts. Received: {selection.start:g} to {selection.end:g}"
        )
    if not 1 <= selection.points <= MOST_POINTS:
        raise UserError(f"`points` must be 1 to {MOST_POINTS}. Received: {selection.points}")
    retention = Retention()
    for resolution in RESOLUTIONS[:-1]:
        if selection.window / resolution <= selection.points and selection.window <= retention.of(resolution):
            return resolution
    return DAY


class Row:
    """One series over one stretch of time: its names and its sums."""

    def __init__(self, row: Any, time: int) -> None:
        self.series, self.stream, self.kind, self.level = row.series, row.stream, row.kind, row.level
        self.group = row.group
        self.a, self.b, self.a_version, self.b_version = row.a_name, row.b_name, row.a_version, row.b_version
        self.feature, self.value, self.labels = row.feature, row.value, row.labels
        self.time, self.rounds, self.elapsed = time, 0, 0
        self.sums: Array = np.zeros((len(row.labels), len(COLUMNS)))
        self.counts: Array | None = None

    @property
    def moment(self) -> int:
        """The mean time of its rounds: where a point of it stands."""
        return self.time + round(self.elapsed / self.rounds) if self.rounds else self.time

    def add(self, sums: Array, rounds: int, elapsed: int, counts: Array | None = None) -> None:
        """Adds another cell of the series; `elapsed` adds up the seconds from `time` to each of its rounds."""
        self.sums = self.sums + sums if self.rounds else sums
        self.rounds, self.elapsed = self.rounds + rounds, self.elapsed + elapsed
        if counts is not None:
            self.counts = counts if self.counts is None else self.counts + counts

    def statistic(self, label: str, *, as_stored: bool = False) -> Statistic:
        """One measure; of the probe's rounds as one round, unless `as_stored`.

        Raises:
            UserError: the series has no such measure.
        """
        if label not in self.labels:
            raise UserError(
                f"the store has no such measure here (it has {', '.join(self.labels)}). Received: {label!r}"
            )
        place = self.labels.index(label)
        repeated = self.stream == PROBE and not as_stored
        sums = packing.one_round(self.sums[place], self.rounds) if repeated else self.sums[place]
        return packing.to_statistic(sums, self.counts[place] if self.counts is not None else None)

    def statistics(self, *, as_stored: bool = False) -> dict[str, Statistic]:
        """Every measure by label."""
        return {label: self.statistic(label, as_stored=as_stored) for label in self.labels}


def stretches(
    connection: Connection, resolution: int, start: float, end: float
) -> Iterator[tuple[int, int, int]]:
    """The parts to read for [start, end): (resolution, from, to). Coarse cells come first, as far as they are rolled up."""
    until = {
        row.resolution: row.until for row in connection.execute(select(RolledUp.resolution, RolledUp.until))
    }
    since, end = int(start) // resolution * resolution, math.ceil(end)
    for step in sorted((step for step in RESOLUTIONS if step <= resolution), reverse=True):
        to = end if step == MINUTE else min(until.get(step, 0), end)
        if since < to:
            yield step, since, to
            since = to


def window_parts(connection: Connection, start: float, end: float) -> list[tuple[int, int, int]]:
    """The fewest cells that make up [start, end): (resolution, from, to), days and hours inside, minutes at the ends.

    The start is moved back to a whole cell of the finest resolution that is kept so long.
    """
    until = {
        row.resolution: row.until for row in connection.execute(select(RolledUp.resolution, RolledUp.until))
    }
    retention, last = Retention(), math.ceil(end)
    finest = next((step for step in RESOLUTIONS[:-1] if end - start <= retention.of(step)), DAY)
    at = int(start) // finest * finest
    parts: list[tuple[int, int, int]] = []
    while at < last:
        whole = (
            step
            for step in reversed(RESOLUTIONS)
            if step >= finest and at % step == 0 and at + step <= min(until.get(step, 0), last)
        )
        step = next(whole, MINUTE)
        if parts and parts[-1][0] == step:
            parts[-1] = (step, parts[-1][1], at + step)
        else:
            parts.append((step, at, at + step))
        at += step
    return parts


def read_cells(
    connection: Connection,
    selection: Selection,
    where: Sequence[Any],
    *,
    sides: tuple[Any, Any] | None = None,
) -> list[Row]:
    """The cells of a selection's range at its finest resolution, in the order of time; the last may be partial.

    Args:
        connection: to the store.
        selection: stream, range and the most points of it.
        where: conditions on `Series`, and on the two sides.
        sides: aliases of `SubjectTable` that `where` names.

    Raises:
        UserError: times out of order, `points` out of 1..2000.
    """
    resolution = resolution_for(selection)
    parts = list(stretches(connection, resolution, selection.start, selection.end))
    return _read(connection, selection.stream, resolution, parts, where, sides=sides)


def read_totals(connection: Connection) -> list[Row]:
    """Every series of both streams, added up since the store began."""
    return _read(connection, None, TOTAL, [(TOTAL, 0, 1)], ())


def _read(
    connection: Connection,
    stream: str | None,
    resolution: int,
    parts: Sequence[tuple[int, int, int]],
    where: Sequence[Any],
    *,
    sides: tuple[Any, Any] | None = None,
    histograms: bool = False,
) -> list[Row]:
    side_a, side_b = sides or _SIDES
    series_statement = (
        select(
            *(
                Series.id.label("series"),
                Series.stream,
                Series.kind,
                Series.level,
                Series.b.label("group"),
                Series.feature,
                Series.value,
            ),
            *(Layout.labels, side_a.replica.label("a_name"), side_b.replica.label("b_name")),
            *(side_a.version.label("a_version"), side_b.version.label("b_version")),
        )
        .join_from(Series, Layout, Layout.id == Series.layout)
        .join(side_a, side_a.id == Series.a)
        .join(side_b, side_b.id == Series.b)
        .where(*where, *(() if stream is None else (Series.stream == stream,)))
    )
    # the series first, then their cells by key: a join leaves it to the planner, who may scan every minute there is
    series_by_id = {row.series: row for row in connection.execute(series_statement)}
    columns = [
        Cell.series,
        Cell.time,
        Cell.rounds,
        Cell.elapsed,
        Cell.sums,
        *([Cell.histogram] if histograms else []),
    ]
    statement = select(*columns).where(Cell.series.in_(series_by_id)).order_by(Cell.time, Cell.series)
    rows: dict[tuple[int, int], Row] = {}
    for step, since, to in parts:
        in_part = (Cell.resolution == step, Cell.time >= since, Cell.time < to)
        for cell in connection.execute(statement.where(*in_part)):
            time = cell.time // resolution * resolution if resolution else 0
            row = rows.pop((time, cell.series), None) or Row(series_by_id[cell.series], time)
            rows[time, cell.series] = row  # now the last
            counts = packing.unpack_histograms(cell.histogram, len(row.labels)) if histograms else None
            row.add(
                packing.unpack_sums([cell.sums])[0],
                cell.rounds,
                elapsed_since(time, cell, step),
                counts,
            )
    return list(rows.values())


def load_window(
    connection: Connection,
    selection: Selection,
    *where: Any,
    sides: tuple[Any, Any] | None = None,
    histograms: bool = False,
) -> list[Row]:
    """The window up to the selection's end, added up by series; the series whose newest cell is newest comes last."""
    parts = window_parts(connection, selection.start, selection.end)
    return _read(connection, selection.stream, TOTAL, parts, where, sides=sides, histograms=histograms)


def newest_group(connection: Connection, selection: Selection) -> int | None:
    """The group of the newest round up to the selection's end that compared anything."""
    return connection.execute(
        select(Round.everyone)
        .where(Round.stream == selection.stream, Round.everyone.is_not(None), Round.time <= selection.end)
        .order_by(Round.time.desc(), Round.id.desc())
        .limit(1)
    ).scalar()


def group_members(connection: Connection, stream: str, everyone: int) -> list[int]:
    """The subjects of a group; a fleet's group is among them, since its floors are of the group."""
    members = fleet_members(connection, everyone)
    if members:
        return [*members, everyone]
    rows = (
        select(Series.a)
        .where(Series.stream == stream, Series.kind == "replica", Series.b == everyone)
        .distinct()
    )
    return list(connection.execute(rows).scalars())


def fleet_members(connection: Connection, everyone: int) -> list[int]:
    """The subjects of a fleet, in the order of its cells; empty if the group is none."""
    labels = connection.execute(select(SubjectTable.labels).where(SubjectTable.id == everyone)).scalar()
    return list((labels or {}).get(MEMBERS, ()))


def replica_rows(connection: Connection, selection: Selection, everyone: int) -> list[Row]:
    """The window's sums of each replica of a group: its noise, and its means over its pairs with the others."""
    kinds = Series.kind.in_(("replica", FLEET))
    rows = load_window(connection, selection, Series.b == everyone, kinds, Series.feature == "")
    of_fleet = [row for row in rows if row.kind == FLEET]
    return [row for row in rows if row.kind != FLEET] + fleet_rows(connection, of_fleet)


def floor_rows(connection: Connection, selection: Selection, everyone: int) -> list[Row]:
    """The window's sums of each replica of a group against itself, asked again and inside a batch."""
    if not fleet_members(connection, everyone):
        members = group_members(connection, selection.stream, everyone)
        is_floor = (Series.kind.in_(("again", "batch")), Series.a.in_(members))
        return load_window(connection, selection, *is_floor)
    rows = load_window(connection, selection, Series.b == everyone, Series.kind == FLEET)
    return fleet_rows(connection, rows, floors=True)


def past_floor_rows(connection: Connection, selection: Selection) -> list[Row]:
    """`floor_rows` of all groups of the window."""
    kinds = Series.kind.in_(("again", "batch", FLEET))
    rows = load_window(connection, selection, kinds, Series.feature == "")
    of_fleets = fleet_rows(connection, [row for row in rows if row.kind == FLEET], floors=True)
    return [row for row in rows if row.kind != FLEET and row.a != ALL_REPLICAS] + of_fleets


def fleet_rows(connection: Connection, rows: Sequence[Row], *, floors: bool = False) -> list[Row]:
    """Rows of the kind `FLEET` as rows of its replicas, without those that were silent.

    Args:
        connection: to the store.
        rows: of fleets.
        floors: each replica against itself, in place of its noise and its means over pairs.
    """
    result = []
    members: dict[int, list[int]] = {}
    for row in rows:
        if row.group not in members:
            members[row.group] = fleet_members(connection, row.group)
    subjects = {
        row.id: row
        for row in connection.execute(
            select(SubjectTable.id, SubjectTable.replica, SubjectTable.version).where(
                SubjectTable.id.in_({member for of_group in members.values() for member in of_group})
            )
        )
    }
    for row in rows:
        sums = row.sums.reshape(len(row.labels), len(members[row.group]), len(COLUMNS))
        places = [place for place, label in enumerate(row.labels) if label.startswith(FLOOR_OF) == floors]
        labels = [row.labels[place].removeprefix(FLOOR_OF) for place in places]
        for position, member in enumerate(members[row.group]):
            if not sums[places, position, 0].any():
                continue
            of_replica = copy(row)
            of_replica.kind, of_replica.labels = "again" if floors else "replica", labels
            of_replica.a, of_replica.a_version = subjects[member].replica, subjects[member].version
            of_replica.sums = sums[places, position]
            result.append(of_replica)
    return result


def merge(parts: Iterable[Mapping[str, Statistic]]) -> dict[str, Statistic]:
    """Statistics by label, merged."""
    merged: dict[str, Statistic] = {}
    for statistics in parts:
        for label, statistic in statistics.items():
            merged[label] = merged[label].merge(statistic) if label in merged else statistic
    return merged
