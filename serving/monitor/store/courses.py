"""Measures over time: one line a series, with one point a cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sqlalchemy import and_, or_
from sqlalchemy.orm import aliased

from ranker.divergence import measure_interval
from serving.monitor.measurement.record import PROBE
from serving.monitor.store import packing
from serving.monitor.store.cells import Row, fleet_rows, read_cells, resolution_for
from serving.monitor.store.database import Store
from serving.monitor.store.results import Line, LinePoint
from serving.monitor.store.schema import FLEET, Series, SubjectTable
from serving.monitor.store.selection import Selection


def lines(store: Store, selection: Selection) -> tuple[Line, ...]:
    """A measure's course over [start, end), one line a series, at the finest resolution of at most the points.

    Raises:
        UserError: times out of order, `points` out of 1..2000.
    """
    a, b = selection.a, selection.b
    where = [
        Series.kind == selection.kind,
        Series.feature == selection.feature,
        Series.value == selection.value,
    ]
    side_a, side_b = aliased(SubjectTable), aliased(SubjectTable)
    if a is not None and b is not None:
        where.append(
            or_(
                and_(side_a.replica == a, side_b.replica == b),
                and_(side_a.replica == b, side_b.replica == a),
            )
        )
    elif a is not None or b is not None:
        where.append(or_(side_a.replica == (a or b), side_b.replica == (a or b)))
    with store.read() as connection:
        rows = read_cells(connection, selection, where, sides=(side_a, side_b))
        if selection.kind == "replica" and not selection.feature:
            of_fleets = read_cells(connection, selection, [Series.kind == FLEET])
            rows += [row for row in fleet_rows(connection, of_fleets) if a is None or row.a == a]
    return tuple(
        sorted(
            _lines_of(rows, selection.measure, selection),
            key=lambda line: (line.a, line.b, line.points[0].time),
        )
    )


def courses(store: Store, selection: Selection, labels: Sequence[str]) -> dict[str, tuple[Line, ...]]:
    """Measures over all pairs from one reading: label -> lines, one a group of versions, the oldest first."""
    with store.read() as connection:
        rows = read_cells(connection, selection, [Series.kind == "all", Series.feature == ""])
    return {
        label: tuple(sorted(_lines_of(rows, label, selection), key=lambda line: line.points[0].time))
        for label in labels
    }


def floor_course(store: Store, selection: Selection) -> tuple[LinePoint, ...]:
    """What replicas differ from themselves over time, all of them and both ways of asking added up."""
    label = selection.measure
    where = [Series.kind.in_(("again", "batch")), Series.feature == ""]
    with store.read() as connection:
        rows = read_cells(connection, selection, where)
    by_time: dict[int, list[Row]] = {}
    for row in rows:
        if label in row.labels:
            by_time.setdefault(row.time, []).append(row)
    floor_points = []
    for time, cells in sorted(by_time.items()):
        sums = [
            packing.one_round(row.sums[row.labels.index(label)], row.rounds)
            if row.stream == PROBE
            else row.sums[row.labels.index(label)]
            for row in cells
        ]
        statistic = packing.to_statistic(np.sum(sums, axis=0))
        rounds = max(row.rounds for row in cells)
        time += round(sum(row.elapsed for row in cells) / max(sum(row.rounds for row in cells), 1))
        interval = measure_interval(label, statistic, selection.confidence)
        floor_points.append(LinePoint(time, *interval, n=statistic.n, rounds=rounds))
    return tuple(floor_points)


def joined(lines: Sequence[Line]) -> list[LinePoint]:
    """The points of several lines in the order of time; of two at one time the newer line's."""
    return [
        point for _, point in sorted({point.time: point for line in lines for point in line.points}.items())
    ]


def _lines_of(rows: Sequence[Row], label: str, selection: Selection) -> Iterator[Line]:
    """One measure of some cells as lines, one a series and, of fleets, a replica."""
    resolution = resolution_for(selection)
    rows_by_series: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        if label in row.labels:
            rows_by_series.setdefault((row.series, row.a), []).append(row)
    for series_rows in rows_by_series.values():
        first, points = series_rows[0], []
        for row in series_rows:
            statistic = row.statistic(label)
            interval = measure_interval(label, statistic, selection.confidence)
            points.append(LinePoint(row.moment, *interval, n=statistic.n, rounds=row.rounds))
        yield Line(
            kind=selection.kind,
            a=first.a,
            b=first.b,
            a_version=first.a_version,
            b_version=first.b_version,
            level=first.level,
            feature=selection.feature,
            value=selection.value,
            resolution=resolution,
            points=tuple(points),
        )
