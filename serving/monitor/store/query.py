"""The queries of the store, bounded in time and points, that return dataclasses.

The dashboard, the API, the status and the alerts read the store through them. Each takes the open store and a `Selection`.
Intervals over repeated rounds of the frozen probe are those of one round's requests (see `packing.one_round`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy import func, or_, select
from sqlalchemy.orm import aliased

from ranker.divergence import Statistic, difference, measure_interval, odd_ones
from serving.monitor.store import packing
from serving.monitor.store.cells import (
    Row,
    floor_rows,
    group_members,
    load_window,
    merge,
    newest_group,
    replica_rows,
)
from serving.monitor.store.courses import courses, floor_course, joined, lines
from serving.monitor.store.database import Store
from serving.monitor.store.gaps import Gap, gaps
from serving.monitor.store.history import (
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
    Layout,
    Round,
    Series,
    SubjectTable,
)
from serving.monitor.store.selection import WINDOW, Selection

__all__ = [
    "WINDOW",
    "Gap",
    "Selection",
    "alerts",
    "alerts_at",
    "compared_since",
    "count_course",
    "courses",
    "coverage",
    "dropped_rounds",
    "error_kinds",
    "events",
    "floor_course",
    "freshness",
    "gaps",
    "joined",
    "ladder",
    "lines",
    "matrix",
    "measures",
    "mirrored",
    "odd_one_out",
    "pair_measures",
    "pairs",
    "quantiles",
    "replica_means",
    "replicas",
    "slices",
    "snapshot",
    "totals",
]


def up_to_newest(store: Store, selection: Selection) -> Selection:
    """The selection with its window moved back to just after the newest round, if there is one."""
    time = freshness(store, selection).time
    return selection if time is None else selection.to(end=time + 1)


def measures(store: Store, selection: Selection) -> tuple[str, ...]:
    """Labels of the measures that the newest round has, in the catalogue's order."""
    with store.read() as connection:
        everyone = newest_group(connection, selection)
        if everyone is None:
            return ()
        labels = connection.execute(
            select(Layout.labels)
            .join(Series, Series.layout == Layout.id)
            .where(
                Series.stream == selection.stream,
                Series.kind == "all",
                Series.a == everyone,
                Series.feature == "",
            )
            .order_by(Series.id.desc())
        ).scalar()
    return tuple(labels or ())


def snapshot(store: Store, selection: Selection) -> Snapshot:
    """Every measure over all pairs of the newest group of replicas, with floor and excess; versions; coverage."""
    fresh = freshness(store, selection)
    newest = selection if fresh.time is None else selection.to(end=fresh.time + 1)
    measured: dict[str, MeasureEstimate] = {}
    with store.read() as connection:
        everyone = newest_group(connection, selection)
        if everyone is not None:
            members = group_members(connection, selection.stream, everyone)
            whole = load_window(
                connection,
                newest,
                Series.kind == "all",
                Series.a == everyone,
                Series.feature == "",
            )
            floors = load_window(
                connection, newest, Series.kind.in_(("again", "batch")), Series.a.in_(members)
            )
            floor = merge(row.statistics() for row in floors)
            for row in whole[-1:]:
                for label, statistic in row.statistics().items():
                    measured[label] = _measured(
                        label, statistic, floor.get(label), row.rounds, selection.confidence
                    )
    return Snapshot(fresh, measured, replicas(store, selection), coverage(store, selection))


def matrix(store: Store, selection: Selection) -> Matrix:
    """One measure between all pairs of the newest versions, over all requests or one slice.

    Raises:
        UserError: the store has no such measure.
    """
    label = selection.measure
    newest = up_to_newest(store, selection)
    cells: dict[tuple[str, str], PairEstimate] = {}
    with store.read() as connection:
        everyone = newest_group(connection, selection)
        members = group_members(connection, selection.stream, everyone) if everyone is not None else []
        rows = load_window(
            connection,
            newest,
            Series.kind == "pair",
            Series.a.in_(members),
            Series.b.in_(members),
            Series.feature == selection.feature,
            Series.value == selection.value,
        )
        floors = load_window(connection, newest, Series.kind.in_(("again", "batch")), Series.a.in_(members))
    for row in rows:
        cells[row.a, row.b] = _pair_estimate(row, floors, label, selection.confidence)
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
    return Matrix(label=label, replicas=names, values=values, excess=excess, n=n, cells=tuple(cells.values()))


def pairs(store: Store, selection: Selection, labels: Sequence[str]) -> dict[str, tuple[PairEstimate, ...]]:
    """Some measures between all pairs of the newest versions: label -> pairs.

    The intervals of one label hold together at the selection's confidence.
    """
    newest = up_to_newest(store, selection)
    with store.read() as connection:
        everyone = newest_group(connection, selection)
        if everyone is None:
            return {}
        members = group_members(connection, selection.stream, everyone)
        whole = (Series.a.in_(members), Series.b.in_(members), Series.feature == "")
        rows = load_window(connection, newest, Series.kind == "pair", *whole)
        floors = load_window(connection, newest, Series.kind.in_(("again", "batch")), *whole)
    confidence = 1 - (1 - selection.confidence) / max(len(rows), 1)
    result: dict[str, tuple[PairEstimate, ...]] = {}
    for label in labels:
        result[label] = tuple(
            _pair_estimate(row, floors, label, confidence) for row in rows if label in row.labels
        )
    return result


def pair_measures(store: Store, selection: Selection) -> dict[str, PairEstimate]:
    """Every measure of the pair `a` and `b` from one reading: label -> value, interval and excess over the floor.

    They are those of the versions compared last; empty if the two were never compared.
    """
    newest, a, b = up_to_newest(store, selection), selection.a, selection.b
    first, second = aliased(SubjectTable), aliased(SubjectTable)
    named = or_(
        (first.replica == a) & (second.replica == b),
        (first.replica == b) & (second.replica == a),
        (first.replica == second.replica) & first.replica.in_((a, b)),
    )
    where = [Series.kind.in_(("pair", "again", "batch")), Series.feature == "", named]
    with store.read() as connection:
        rows = load_window(connection, newest, *where, sides=(first, second))
    whole = next((row for row in reversed(rows) if row.kind == "pair"), None)
    if whole is None:
        return {}
    sides = {(whole.a, whole.a_version), (whole.b, whole.b_version)}
    floors = [row for row in rows if row.kind != "pair" and (row.a, row.a_version) in sides]
    floor: dict[str, Statistic] = merge(row.statistics() for row in floors)
    estimates = {}
    for label, statistic in whole.statistics().items():
        value = measure_interval(label, statistic, selection.confidence)
        under = floor.get(label)
        excess = (
            difference(value, under.interval(selection.confidence))
            if under is not None and under.n
            else value
        )
        estimates[label] = PairEstimate(
            a=whole.a,
            b=whole.b,
            a_version=whole.a_version,
            b_version=whole.b_version,
            level=whole.level,
            value=value,
            excess=excess,
            n=statistic.n,
            rounds=whole.rounds,
        )
    return estimates


def replica_means(
    store: Store, selection: Selection, labels: Sequence[str]
) -> dict[str, tuple[ReplicaEstimate, ...]]:
    """Some measures of each replica against all others: label -> replicas, those that differ most first.

    The intervals of one label hold together at the selection's confidence. The label `component` is a replica's own noise.
    """
    newest = up_to_newest(store, selection)
    with store.read() as connection:
        everyone = newest_group(connection, selection)
        if everyone is None:
            return {}
        rows = replica_rows(connection, newest, everyone)
        floors = {row.a: row for row in floor_rows(connection, newest, everyone)}
    confidence = 1 - (1 - selection.confidence) / max(len(rows), 1)
    result: dict[str, tuple[ReplicaEstimate, ...]] = {}
    for label in labels:
        estimates = []
        for row in rows:
            if label not in row.labels:
                continue
            statistic = row.statistic(label)
            value = measure_interval(label, statistic, confidence)
            floor = floors.get(row.a)
            excess = value
            if floor is not None and label in floor.labels:
                against_itself = floor.statistic(label)
                if against_itself.n:
                    excess = difference(value, measure_interval(label, against_itself, confidence))
            estimates.append(ReplicaEstimate(row.a, row.a_version, value, excess, statistic.n))
        result[label] = tuple(sorted(estimates, key=lambda row: -row.value.value))
    return result


def compared_since(store: Store, selection: Selection) -> int | None:
    """When the versions that serve now were first compared without another set of them since; None: nothing was."""
    with store.read() as connection:
        everyone = newest_group(connection, selection)
        if everyone is None:
            return None
        until = (Round.stream == selection.stream, Round.time <= selection.end, Round.everyone.is_not(None))
        before = connection.execute(
            select(func.max(Round.time)).where(*until, Round.everyone != everyone)
        ).scalar()
        return connection.execute(
            select(func.min(Round.time)).where(*until, Round.everyone == everyone, Round.time > (before or 0))
        ).scalar()


def slices(store: Store, selection: Selection) -> tuple[SliceRow, ...]:
    """A measure by slice, over all pairs or (with `a` and `b`) one; by feature and value."""
    label, a, b = selection.measure, selection.a, selection.b
    newest = up_to_newest(store, selection)
    with store.read() as connection:
        everyone = newest_group(connection, selection)
        if everyone is None:
            return ()
        members = group_members(connection, selection.stream, everyone)
        if a is None or b is None:
            rows = load_window(
                connection,
                newest,
                Series.kind == "all",
                Series.a == everyone,
                Series.feature != "",
            )
        else:
            rows = load_window(
                connection,
                newest,
                Series.kind == "pair",
                Series.a.in_(members),
                Series.b.in_(members),
                Series.feature != "",
            )
            rows = [row for row in rows if {row.a, row.b} == {a, b}]
    parts = []
    for row in rows:
        if label in row.labels:
            statistic = row.statistic(label)
            parts.append(
                SliceRow(
                    row.feature,
                    row.value,
                    measure_interval(label, statistic, selection.confidence),
                    statistic.n,
                )
            )
    return tuple(sorted(parts, key=lambda row: (row.feature, row.value)))


def odd_one_out(store: Store, selection: Selection, *, factor: float = 3.0, alpha: float = 0.05) -> OddOneOut:
    """Each replica's own noise, and who stands out; empty with fewer than three replicas."""
    newest = up_to_newest(store, selection)
    with store.read() as connection:
        everyone = newest_group(connection, selection)
        if everyone is None:
            return OddOneOut((), ())
        rows = replica_rows(connection, newest, everyone)
    statistics = {row.a: row.statistic("component") for row in rows if "component" in row.labels}
    components = tuple(
        Component(row.a, row.a_version, statistics[row.a].interval(selection.confidence), statistics[row.a].n)
        for row in rows
        if row.a in statistics
    )
    return OddOneOut(components, tuple(odd_ones(statistics, factor=factor, alpha=alpha)))


def ladder(store: Store, selection: Selection) -> tuple[Rung, ...]:
    """A measure by level of the noise ladder: the mean over the level's pairs, `L0` first.

    The interval of a level is that of one pair's requests: pairs share their requests, so more pairs do not narrow it.
    """
    label = selection.measure
    newest = up_to_newest(store, selection)
    with store.read() as connection:
        kinds = ("pair", "again", "batch", "refresh")
        rows = load_window(connection, newest, Series.kind.in_(kinds), Series.feature == "")
    by_level: dict[str, list[Statistic]] = {}
    for row in rows:
        if label in row.labels:
            by_level.setdefault(row.level, []).append(row.statistic(label))
    rungs = []
    for name, statistics in sorted(by_level.items()):
        sums, counts = packing.to_arrays({str(i): statistic for i, statistic in enumerate(statistics)})
        mean = packing.one_round(sums.sum(axis=0), len(statistics))
        rungs.append(
            Rung(
                name,
                measure_interval(label, packing.to_statistic(mean, counts.sum(axis=0)), selection.confidence),
                len(statistics),
                int(mean[0]),
            )
        )
    return tuple(rungs)


def quantiles(store: Store, selection: Selection, qs: Sequence[float] = (0.5, 0.95)) -> dict[float, float]:
    """Quantiles of the requests' values of a measure, over all pairs or (with `a` and `b`) one; empty if unknown."""
    label, a, b = selection.measure, selection.a, selection.b
    newest = up_to_newest(store, selection)
    pair = a is not None and b is not None
    with store.read() as connection:
        everyone = newest_group(connection, selection)
        if everyone is None:
            return {}
        members = group_members(connection, selection.stream, everyone)
        kind = (
            (Series.kind == "pair", Series.a.in_(members), Series.b.in_(members))
            if pair
            else (Series.kind == "all", Series.a == everyone)
        )
        rows = load_window(connection, newest, *kind, Series.feature == "", histograms=True)
    for row in rows:
        if label in row.labels and (not pair or {row.a, row.b} == {a, b}):
            statistic = row.statistic(label)
            return {q: statistic.quantile(q) for q in qs}
    return {}


def _pair_estimate(row: Row, floors: Sequence[Row], label: str, confidence: float) -> PairEstimate:
    """A pair's measure, and its excess over the floors of its two replicas."""
    statistic = row.statistic(label)
    floors_of_pair = [
        floor.statistic(label) for floor in floors if floor.a in (row.a, row.b) and label in floor.labels
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
    return MeasureEstimate(
        label=label, value=value, floor=floor_value, excess=excess, n=statistic.n, rounds=rounds
    )


def _sum(statistics: Sequence[Statistic]) -> Statistic:
    merged = Statistic.empty()
    for statistic in statistics:
        merged = merged.merge(statistic)
    return merged
