"""Queries of the store, bounded in time and points, that return dataclasses. The dashboard, the API and the alerts use them.

Every function takes the open store and, where it looks back, `now` (seconds since 1970) and `window` (seconds).
Intervals over repeated rounds of the frozen probe are those of one round's requests (see `packing.one_round`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import aliased

from ranker.divergence import Statistic, difference, measure_interval, odd_ones
from serving.monitor.measurement.record import PROBE
from serving.monitor.store import packing
from serving.monitor.store.cells import (
    Row,
    fleet_rows,
    floor_rows,
    group_members,
    load_window,
    merge,
    newest_group,
    read_cells,
    replica_rows,
    resolution_for,
)
from serving.monitor.store.database import Store
from serving.monitor.store.history import (
    WINDOW,
    alerts,
    alerts_at,
    count_course,
    coverage,
    dropped_rounds,
    error_kinds,
    events,
    freshness,
    mirrored,
    replicas,
    totals,
)
from serving.monitor.store.results import (
    Component,
    Line,
    LinePoint,
    Matrix,
    MeasureEstimate,
    OddOneOut,
    PairEstimate,
    ReplicaEstimate,
    Rung,
    SliceRow,
    Snapshot,
)
from serving.monitor.store.schema import (
    FLEET,
    Layout,
    Round,
    Series,
    SubjectTable,
)

__all__ = [
    "WINDOW", "alerts", "alerts_at", "compared_since", "count_course", "coverage", "dropped_rounds", "error_kinds",
    "events", "freshness", "ladder", "lines", "matrix", "measures", "mirrored", "odd_one_out", "pairs",
    "quantiles", "replica_means", "replicas", "resolution_for", "slices", "snapshot", "totals",
]  # fmt: skip


def _end(store: Store, now: float, stream: str) -> float:
    """The end of a window: just after the newest round, so that a silent monitor still shows its last data."""
    time = freshness(store, now, stream).time
    return now if time is None else time + 1


def measures(store: Store, now: float, stream: str = PROBE) -> tuple[str, ...]:
    """Labels of the measures that the newest round has, in the catalogue's order."""
    with store.read() as connection:
        everyone = newest_group(connection, stream, now)
        if everyone is None:
            return ()
        labels = connection.execute(
            select(Layout.labels)
            .join(Series, Series.layout == Layout.id)
            .where(Series.stream == stream, Series.kind == "all", Series.a == everyone, Series.feature == "")
            .order_by(Series.id.desc())
        ).scalar()
    return tuple(labels or ())


def snapshot(
    store: Store, now: float, *, stream: str = PROBE, window: float = WINDOW, confidence: float = 0.95
) -> Snapshot:
    """Every measure over all pairs of the newest group of replicas, with floor and excess; versions; coverage."""
    fresh = freshness(store, now, stream)
    end = now if fresh.time is None else fresh.time + 1
    measured: dict[str, MeasureEstimate] = {}
    with store.read() as connection:
        everyone = newest_group(connection, stream, now)
        if everyone is not None:
            members = group_members(connection, stream, everyone)
            whole = load_window(
                connection,
                stream,
                end,
                window,
                Series.kind == "all",
                Series.a == everyone,
                Series.feature == "",
            )
            floors = load_window(
                connection, stream, end, window, Series.kind.in_(("again", "batch")), Series.a.in_(members)
            )
            floor = merge(row.statistics(stream) for row in floors)
            for row in whole[-1:]:
                for label, statistic in row.statistics(stream).items():
                    measured[label] = _measured(label, statistic, floor.get(label), row.rounds, confidence)
    return Snapshot(fresh, measured, replicas(store, now), coverage(store, now, stream=stream, window=window))


def matrix(
    store: Store,
    label: str,
    now: float,
    *,
    stream: str = PROBE,
    window: float = WINDOW,
    feature: str = "",
    value: str = "",
    confidence: float = 0.95,
) -> Matrix:
    """One measure between all pairs of the newest versions, over all requests or one slice.

    Raises:
        UserError: the store has no such measure.
    """
    end = _end(store, now, stream)
    cells: dict[tuple[str, str], PairEstimate] = {}
    with store.read() as connection:
        everyone = newest_group(connection, stream, now)
        members = group_members(connection, stream, everyone) if everyone is not None else []
        rows = load_window(
            connection,
            stream,
            end,
            window,
            Series.kind == "pair",
            Series.a.in_(members),
            Series.b.in_(members),
            Series.feature == feature,
            Series.value == value,
        )
        floors = load_window(
            connection, stream, end, window, Series.kind.in_(("again", "batch")), Series.a.in_(members)
        )
    for row in rows:
        cells[row.a, row.b] = _pair_estimate(row, floors, label, stream, confidence)
    names = tuple(sorted({name for pair in cells for name in pair}))
    values, excess, n = (
        np.full((len(names),) * 2, np.nan),
        np.full((len(names),) * 2, np.nan),
        np.zeros((len(names),) * 2, int),
    )
    for (a, b), cell in cells.items():
        i, j = names.index(a), names.index(b)
        for x, y, sign in ((i, j, 1), (j, i, -1 if label == "bias" else 1)):
            values[x, y], excess[x, y], n[x, y] = sign * cell.value.value, sign * cell.excess.value, cell.n
    return Matrix(label, names, values, excess, n, tuple(cells.values()))


def pairs(
    store: Store,
    labels: Sequence[str],
    now: float,
    *,
    stream: str = PROBE,
    window: float = WINDOW,
    confidence: float = 0.95,
) -> dict[str, tuple[PairEstimate, ...]]:
    """Some measures between all pairs of the newest versions: label -> pairs.

    The intervals of one label hold together at `confidence`.
    """
    end = _end(store, now, stream)
    with store.read() as connection:
        everyone = newest_group(connection, stream, now)
        if everyone is None:
            return {}
        members = group_members(connection, stream, everyone)
        whole = (Series.a.in_(members), Series.b.in_(members), Series.feature == "")
        rows = load_window(connection, stream, end, window, Series.kind == "pair", *whole)
        floors = load_window(connection, stream, end, window, Series.kind.in_(("again", "batch")), *whole)
    confidence = 1 - (1 - confidence) / max(len(rows), 1)
    result: dict[str, tuple[PairEstimate, ...]] = {}
    for label in labels:
        result[label] = tuple(
            _pair_estimate(row, floors, label, stream, confidence) for row in rows if label in row.labels
        )
    return result


def replica_means(
    store: Store,
    labels: Sequence[str],
    now: float,
    *,
    stream: str = PROBE,
    window: float = WINDOW,
    confidence: float = 0.95,
) -> dict[str, tuple[ReplicaEstimate, ...]]:
    """Some measures of each replica against all others: label -> replicas, those that differ most first.

    The intervals of one label hold together at `confidence`. The label `component` is a replica's own noise.
    """
    end = _end(store, now, stream)
    with store.read() as connection:
        everyone = newest_group(connection, stream, now)
        if everyone is None:
            return {}
        rows = replica_rows(connection, stream, end, window, everyone)
        floors = {row.a: row for row in floor_rows(connection, stream, end, window, everyone)}
    confidence = 1 - (1 - confidence) / max(len(rows), 1)
    result: dict[str, tuple[ReplicaEstimate, ...]] = {}
    for label in labels:
        estimates = []
        for row in rows:
            if label not in row.labels:
                continue
            statistic = row.statistic(label, stream)
            value = measure_interval(label, statistic, confidence)
            floor = floors.get(row.a)
            excess = value
            if floor is not None and label in floor.labels:
                against_itself = floor.statistic(label, stream)
                if against_itself.n:
                    excess = difference(value, measure_interval(label, against_itself, confidence))
            estimates.append(ReplicaEstimate(row.a, row.a_version, value, excess, statistic.n))
        result[label] = tuple(sorted(estimates, key=lambda row: -row.value.value))
    return result


def compared_since(store: Store, now: float, stream: str = PROBE) -> int | None:
    """When the versions that serve now were first compared without another set of them since; None: nothing was."""
    with store.read() as connection:
        everyone = newest_group(connection, stream, now)
        if everyone is None:
            return None
        until = (Round.stream == stream, Round.time <= now, Round.everyone.is_not(None))
        before = connection.execute(
            select(func.max(Round.time)).where(*until, Round.everyone != everyone)
        ).scalar()
        return connection.execute(
            select(func.min(Round.time)).where(*until, Round.everyone == everyone, Round.time > (before or 0))
        ).scalar()


def lines(
    store: Store,
    label: str,
    start: float,
    end: float,
    *,
    stream: str = PROBE,
    kind: str = "all",
    a: str | None = None,
    b: str | None = None,
    feature: str = "",
    value: str = "",
    points: int = 400,
    confidence: float = 0.95,
) -> tuple[Line, ...]:
    """A measure's course over [start, end), one line a series, at the finest resolution of at most `points` points.

    `kind` is `all`, `pair`, `replica`, `again`, `batch`, `refresh` or `gaps`; `a` and `b` are names of replicas, in either
    order (None: any).

    Raises:
        UserError: times out of order, `points` out of 1..2000.
    """
    resolution = resolution_for(start, end, points, end)
    where = [Series.kind == kind, Series.feature == feature, Series.value == value]
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
        rows = read_cells(connection, stream, resolution, start, end, where, sides=(side_a, side_b))
        if kind == "replica" and not feature:
            of_fleets = read_cells(connection, stream, resolution, start, end, [Series.kind == FLEET])
            rows += [row for row in fleet_rows(connection, of_fleets) if a is None or row.a == a]
    rows_by_series: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        if label in row.labels:
            rows_by_series.setdefault((row.series, row.a), []).append(row)
    result = []
    for series_rows in rows_by_series.values():
        series_points = [
            LinePoint(
                row.moment, *measure_interval(label, statistic, confidence), n=statistic.n, rounds=row.rounds
            )
            for row, statistic in ((row, row.statistic(label, stream)) for row in series_rows)
        ]
        first = series_rows[0]
        result.append(
            Line(
                kind=kind,
                a=first.a,
                b=first.b,
                a_version=first.a_version,
                b_version=first.b_version,
                level=first.level,
                feature=feature,
                value=value,
                resolution=resolution,
                points=tuple(series_points),
            )
        )
    return tuple(sorted(result, key=lambda line: (line.a, line.b, line.points[0].time)))


def slices(
    store: Store,
    label: str,
    now: float,
    *,
    stream: str = PROBE,
    window: float = WINDOW,
    a: str | None = None,
    b: str | None = None,
    confidence: float = 0.95,
) -> tuple[SliceRow, ...]:
    """A measure by slice, over all pairs or (with `a` and `b`) one; by feature and value."""
    end = _end(store, now, stream)
    with store.read() as connection:
        everyone = newest_group(connection, stream, now)
        if everyone is None:
            return ()
        members = group_members(connection, stream, everyone)
        if a is None or b is None:
            rows = load_window(
                connection,
                stream,
                end,
                window,
                Series.kind == "all",
                Series.a == everyone,
                Series.feature != "",
            )
        else:
            rows = load_window(
                connection,
                stream,
                end,
                window,
                Series.kind == "pair",
                Series.a.in_(members),
                Series.b.in_(members),
                Series.feature != "",
            )
            rows = [row for row in rows if {row.a, row.b} == {a, b}]
    parts = []
    for row in rows:
        if label in row.labels:
            statistic = row.statistic(label, stream)
            parts.append(
                SliceRow(row.feature, row.value, measure_interval(label, statistic, confidence), statistic.n)
            )
    return tuple(sorted(parts, key=lambda row: (row.feature, row.value)))


def odd_one_out(
    store: Store,
    now: float,
    *,
    stream: str = PROBE,
    window: float = WINDOW,
    factor: float = 3.0,
    alpha: float = 0.05,
    confidence: float = 0.95,
) -> OddOneOut:
    """Each replica's own noise, and who stands out; empty with fewer than three replicas."""
    end = _end(store, now, stream)
    with store.read() as connection:
        everyone = newest_group(connection, stream, now)
        if everyone is None:
            return OddOneOut((), ())
        rows = replica_rows(connection, stream, end, window, everyone)
    statistics = {row.a: row.statistic("component", stream) for row in rows if "component" in row.labels}
    components = tuple(
        Component(row.a, row.a_version, statistics[row.a].interval(confidence), statistics[row.a].n)
        for row in rows
        if row.a in statistics
    )
    return OddOneOut(components, tuple(odd_ones(statistics, factor=factor, alpha=alpha)))


def ladder(
    store: Store,
    label: str,
    now: float,
    *,
    stream: str = PROBE,
    window: float = WINDOW,
    confidence: float = 0.95,
) -> tuple[Rung, ...]:
    """A measure by level of the noise ladder: the mean over the level's pairs, `L0` first.

    The interval of a level is that of one pair's requests: pairs share their requests, so more pairs do not narrow it.
    """
    end = _end(store, now, stream)
    with store.read() as connection:
        kinds = ("pair", "again", "batch", "refresh")
        rows = load_window(connection, stream, end, window, Series.kind.in_(kinds), Series.feature == "")
    by_level: dict[str, list[Statistic]] = {}
    for row in rows:
        if label in row.labels:
            by_level.setdefault(row.level, []).append(row.statistic(label, stream))
    rungs = []
    for name, statistics in sorted(by_level.items()):
        sums, counts = packing.to_arrays({str(i): statistic for i, statistic in enumerate(statistics)})
        mean = packing.one_round(sums.sum(axis=0), len(statistics))
        rungs.append(
            Rung(
                name,
                measure_interval(label, packing.to_statistic(mean, counts.sum(axis=0)), confidence),
                len(statistics),
                int(mean[0]),
            )
        )
    return tuple(rungs)


def quantiles(
    store: Store,
    label: str,
    now: float,
    qs: Sequence[float] = (0.5, 0.95),
    *,
    stream: str = PROBE,
    window: float = WINDOW,
    a: str | None = None,
    b: str | None = None,
) -> dict[float, float]:
    """Quantiles of the requests' values of a measure, over all pairs or (with `a` and `b`) one; empty if unknown."""
    end = _end(store, now, stream)
    pair = a is not None and b is not None
    with store.read() as connection:
        everyone = newest_group(connection, stream, now)
        if everyone is None:
            return {}
        members = group_members(connection, stream, everyone)
        kind = (
            (Series.kind == "pair", Series.a.in_(members), Series.b.in_(members))
            if pair
            else (Series.kind == "all", Series.a == everyone)
        )
        rows = load_window(connection, stream, end, window, *kind, Series.feature == "", histograms=True)
    for row in rows:
        if label in row.labels and (not pair or {row.a, row.b} == {a, b}):
            statistic = row.statistic(label, stream)
            return {q: statistic.quantile(q) for q in qs}
    return {}


def _pair_estimate(
    row: Row, floors: Sequence[Row], label: str, stream: str, confidence: float
) -> PairEstimate:
    """A pair's measure, and its excess over the floors of its two replicas."""
    statistic = row.statistic(label, stream)
    floors_of_pair = [
        floor.statistic(label, stream)
        for floor in floors
        if floor.a in (row.a, row.b) and label in floor.labels
    ]
    value = measure_interval(label, statistic, confidence)
    excess = value
    if floors_of_pair:
        excess = difference(value, measure_interval(label, _sum(floors_of_pair), confidence))
    return PairEstimate(
        a=row.a,
        b=row.b,
        a_version=row.a_version,
        b_version=row.b_version,
        level=row.level,
        value=value,
        excess=excess,
        n=statistic.n,
        rounds=row.rounds,
    )


def _measured(
    label: str, statistic: Statistic, floor: Statistic | None, rounds: int, confidence: float
) -> MeasureEstimate:
    value = measure_interval(label, statistic, confidence)
    floor_value = measure_interval(label, floor, confidence) if floor is not None and floor.n else None
    excess = difference(value, floor_value) if floor_value else value
    return MeasureEstimate(label, value, floor_value, excess, statistic.n, rounds)


def _sum(statistics: Sequence[Statistic]) -> Statistic:
    merged = Statistic.empty()
    for statistic in statistics:
        merged = merged.merge(statistic)
    return merged
