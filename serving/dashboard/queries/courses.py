"""Several measures over time from one reading of the store; and the floor's course over all replicas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranker.divergence import measure_interval
from serving.monitor.measurement.record import PROBE
from serving.monitor.store import Store, packing
from serving.monitor.store.cells import Row, read_cells, resolution_for
from serving.monitor.store.results import Line, LinePoint
from serving.monitor.store.schema import Series


def courses(
    store: Store,
    labels: Sequence[str],
    start: float,
    end: float,
    *,
    stream: str,
    points: int = 400,
    level: float = 0.95,
) -> dict[str, tuple[Line, ...]]:
    """Measures over all pairs, [start, end): label -> lines, one a group of versions, the oldest first.

    Args:
        store: the monitor's.
        labels: of the measures.
        start: seconds since 1970.
        end: not included.
        stream: `probe` or `live`.
        points: most points of a line.
        level: of the intervals.
    """
    resolution = resolution_for(start, end, points, end)
    with store.read() as connection:
        rows = read_cells(
            connection, stream, resolution, start, end, [Series.kind == "all", Series.feature == ""]
        )
    by_series: dict[int, list[Row]] = {}
    for row in rows:
        by_series.setdefault(row.series, []).append(row)
    lines_by_label: dict[str, tuple[Line, ...]] = {}
    for label in labels:
        lines = []
        for course in by_series.values():
            if label not in course[0].labels:
                continue
            first = course[0]
            statistics = [(row, row.statistic(label, stream)) for row in course]
            marks = tuple(
                LinePoint(
                    row.moment, *measure_interval(label, statistic, level), n=statistic.n, rounds=row.rounds
                )
                for row, statistic in statistics
            )
            lines.append(
                Line(
                    "all",
                    first.a,
                    first.b,
                    first.a_version,
                    first.b_version,
                    first.level,
                    "",
                    "",
                    resolution,
                    marks,
                )
            )
        lines_by_label[label] = tuple(sorted(lines, key=lambda line: line.points[0].time))
    return lines_by_label


def floor_course(
    store: Store, label: str, start: float, end: float, *, stream: str, points: int = 60, level: float = 0.95
) -> tuple[LinePoint, ...]:
    """What replicas differ from themselves over time, all of them and both ways of asking added up."""
    resolution = resolution_for(start, end, points, end)
    where = [Series.kind.in_(("again", "batch")), Series.feature == ""]
    with store.read() as connection:
        rows = read_cells(connection, stream, resolution, start, end, where)
    by_time: dict[int, list[Row]] = {}
    for row in rows:
        if label in row.labels:
            by_time.setdefault(row.time, []).append(row)
    floor_points = []
    for time, cells in sorted(by_time.items()):
        sums = [
            packing.one_round(row.sums[row.labels.index(label)], row.rounds)
            if stream == PROBE
            else row.sums[row.labels.index(label)]
            for row in cells
        ]
        statistic = packing.to_statistic(np.sum(sums, axis=0))
        rounds = max(row.rounds for row in cells)
        time += round(sum(row.elapsed for row in cells) / max(sum(row.rounds for row in cells), 1))
        floor_points.append(
            LinePoint(time, *measure_interval(label, statistic, level), n=statistic.n, rounds=rounds)
        )
    return tuple(floor_points)


def joined(lines: Sequence[Line]) -> list[LinePoint]:
    """The points of several lines in the order of time; of two at one time the newer line's."""
    return [
        point for _, point in sorted({point.time: point for line in lines for point in line.points}.items())
    ]
