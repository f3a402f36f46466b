"""Every measure of one pair at once: one reading of the store instead of one a measure."""

from __future__ import annotations

from sqlalchemy import or_
from sqlalchemy.orm import aliased

from ranker.divergence import Statistic, difference, measure_interval
from serving.monitor.store import Store, query
from serving.monitor.store.cells import load_window, merge
from serving.monitor.store.results import PairEstimate
from serving.monitor.store.schema import Series, SubjectTable


def pair_measures(
    store: Store, a: str, b: str, now: float, *, stream: str, window: float, level: float = 0.95
) -> dict[str, PairEstimate]:
    """Label -> value, interval and excess over the floor, at the versions compared last; empty if never compared.

    Args:
        store: the monitor's.
        a: name of a replica.
        b: name of another.
        now: seconds since 1970.
        stream: `probe` or `live`.
        window: seconds up to the newest round that are added up.
        level: of the intervals.
    """
    time = query.freshness(store, now, stream).time
    end = now if time is None else time + 1
    first, second = aliased(SubjectTable), aliased(SubjectTable)
    named = or_(
        (first.replica == a) & (second.replica == b),
        (first.replica == b) & (second.replica == a),
        (first.replica == second.replica) & first.replica.in_((a, b)),
    )
    where = [Series.kind.in_(("pair", "again", "batch")), Series.feature == "", named]
    with store.read() as connection:
        rows = load_window(connection, stream, end, window, *where, sides=(first, second))
    whole = next((row for row in reversed(rows) if row.kind == "pair"), None)
    if whole is None:
        return {}
    sides = {(whole.a, whole.a_version), (whole.b, whole.b_version)}
    floors = [row for row in rows if row.kind != "pair" and (row.a, row.a_version) in sides]
    floor: dict[str, Statistic] = merge(row.statistics(stream) for row in floors)
    estimates = {}
    for label, statistic in whole.statistics(stream).items():
        value = measure_interval(label, statistic, level)
        under = floor.get(label)
        excess = difference(value, under.interval(level)) if under is not None and under.n else value
        estimates[label] = PairEstimate(
            whole.a,
            whole.b,
            whole.a_version,
            whole.b_version,
            whole.level,
            value,
            excess,
            statistic.n,
            whole.rounds,
        )
    return estimates
