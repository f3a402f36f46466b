"""Writes a round in one transaction. A round whose key is stored already changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ranker.config import fingerprint
from ranker.errors import UserError
from serving.monitor.measurement.record import (
    ALL_REPLICAS,
    EACH_REPLICA,
    Mark,
    RoundRecord,
    SeriesKey,
    Subject,
)
from serving.monitor.requests.probe import Array
from serving.monitor.store import packing
from serving.monitor.store.database import Store
from serving.monitor.store.rollup import reopen
from serving.monitor.store.schema import (
    DAY,
    FLEET,
    MEMBERS,
    MINUTE,
    TEN_MINUTES,
    TOTAL,
    Cell,
    Count,
    Event,
    Layout,
    RolledUp,
    Round,
    Series,
    SubjectTable,
)

_KEEP_HISTOGRAM = frozenset({"all", "pair", "refresh"})
_NO_COUNTS: Array = np.zeros((0, 0), dtype=np.int64)
_COUNTED = frozenset({"all", "pair", "again", "batch", "replica"})


def write_round(store: Store, record: RoundRecord) -> bool:
    """Adds a round's sums, counts and marks to the store, all or nothing.

    Returns:
        False if a round with this key is stored already; then nothing changes.

    Raises:
        UserError: the round is so late that the minutes around it may be gone.
    """
    minute = record.time - record.time % MINUTE
    with store.write() as connection:
        _check_age(connection, minute)
        if not _claim(
            connection,
            Round,
            key=record.key,
            stream=record.stream,
            time=record.time,
            duration=record.duration,
            requests=record.requests,
            probe=record.probe,
            everyone=None,
            interval_seconds=record.interval,
            outcomes=_outcomes(record),
        ):
            return False
        subjects = _subjects(connection, record)
        layouts = {key: tuple(statistics) for key, statistics in record.statistics.items()}
        arrays = {key: packing.to_arrays(statistics) for key, statistics in record.statistics.items()}
        fleet = record.fleet
        if fleet is not None and fleet.sums:
            of_fleet = SeriesKey(record.stream, FLEET, fleet.everyone, fleet.everyone, probe=record.probe)
            layouts[of_fleet] = tuple(fleet.sums)
            arrays[of_fleet] = packing.fleet_sums(fleet.sums), _NO_COUNTS
        series = _series(connection, record.stream, layouts, subjects)
        cells = {series[key]: (key, *of_series) for key, of_series in arrays.items()}
        _add_cells(connection, MINUTE, minute, cells, elapsed=record.time - minute)
        totals = {
            position: cell
            for position, cell in cells.items()
            if cell[0].kind in _COUNTED and not cell[0].feature
        }
        _add_cells(connection, TOTAL, 0, totals, elapsed=0)
        _add_counts(connection, record, minute)
        for mark in record.marks:
            key = _mark_key(connection, record, mark)
            if key is None:
                continue
            _claim(
                connection,
                Event,
                key=key,
                time=record.time,
                kind=mark.kind,
                replica=mark.replica,
                detail=dict(mark.detail),
            )
        everyone = next((subjects[key.a] for key in record.statistics if key.kind == "all"), None)
        if everyone is not None:
            connection.execute(update(Round).where(Round.key == record.key).values(everyone=everyone))
        reopen(connection, minute)
    return True


def _mark_key(connection: Connection, record: RoundRecord, mark: Mark) -> str | None:
    """The unique key of a mark; None: the newest mark of this replica says the same already.

    A refresh that is rolled back and made again is one more mark, so that its key has the time; a second monitor of
    the deployment sees the same refresh a little later, which is none.
    """
    key = f"{record.stream}/{mark.key}"[:230]
    if mark.kind != "refresh":
        return key
    newest = connection.execute(
        select(Event.key)
        .where(Event.kind == mark.kind, Event.replica == mark.replica, Event.time <= record.time)
        .order_by(Event.time.desc(), Event.id.desc())
        .limit(1)
    ).scalar()
    return None if newest is not None and newest.startswith(f"{key}@") else f"{key}@{record.time}"


def _check_age(connection: Connection, minute: int) -> None:
    until = connection.execute(select(RolledUp.until).where(RolledUp.resolution == TEN_MINUTES)).scalar() or 0
    if minute < until - DAY:
        raise UserError(
            f"a round must not be older than a day before the newest. Received: time {minute}, newest {until}"
        )


def _claim(connection: Connection, table: type[Round | Event | Layout], **values: Any) -> bool:
    """Inserts a row unless its unique key is taken. Returns whether it was inserted."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(**values).on_conflict_do_nothing()
    return connection.execute(statement.returning(table.id)).first() is not None


def _subjects(connection: Connection, record: RoundRecord) -> dict[Subject, int]:
    labels_by_subject = dict(record.subjects)
    for key in record.statistics:
        labels_by_subject.setdefault(key.a, {})
        labels_by_subject.setdefault(key.b, {})
    fleet = record.fleet
    if fleet is not None:
        for member in fleet.members:
            labels_by_subject.setdefault(member, {})
        labels_by_subject[fleet.everyone] = labels_by_subject.pop(fleet.everyone, {})  # after its members
    replicas = {subject.replica for subject in labels_by_subject}
    table = SubjectTable.__table__.c
    # without the labels, which of a fleet's group name all members
    rows = select(table.id, table.replica, table.version, table.fingerprint)
    ids = {
        Subject(*identity): id_
        for id_, *identity in connection.execute(rows.where(table.replica.in_(replicas)))
    }
    for subject, labels in labels_by_subject.items():
        if subject not in ids:
            of_group = (
                {MEMBERS: [ids[member] for member in fleet.members]}
                if fleet is not None and subject == fleet.everyone
                else {}
            )
            values = subject._asdict() | {
                "labels": dict(labels) | of_group,
                "first_seen": record.time,
                "last_seen": record.time,
            }
            ids[subject] = connection.execute(
                insert(SubjectTable).values(**values).returning(SubjectTable.id)
            ).scalar_one()
    seen = [ids[subject] for subject in record.subjects]
    connection.execute(
        update(SubjectTable)
        .where(SubjectTable.id.in_(seen), SubjectTable.last_seen < record.time)
        .values(last_seen=record.time)
    )
    return ids


def _series(
    connection: Connection,
    stream: str,
    labels_by_key: Mapping[SeriesKey, tuple[str, ...]],
    subjects: Mapping[Subject, int],
) -> dict[SeriesKey, int]:
    layouts: dict[tuple[str, ...], int] = {}
    keys: dict[tuple[Any, ...], SeriesKey] = {}
    for key, labels in labels_by_key.items():
        if labels not in layouts:
            layouts[labels] = _layout(connection, labels)
        a, b = subjects[key.a], subjects[key.b]
        keys[key.stream, key.kind, a, b, key.feature, key.value, key.probe, layouts[labels]] = key
    table = Series.__table__.c
    identity = (
        table.stream,
        table.kind,
        table.a,
        table.b,
        table.feature,
        table.value,
        table.probe,
        table.layout,
    )
    firsts = {subjects[key.a] for key in labels_by_key}
    rows = connection.execute(select(table.id, *identity).where(table.stream == stream, table.a.in_(firsts)))
    ids = {tuple(row[1:]): row[0] for row in rows}
    series = {}
    for values, key in keys.items():
        if values not in ids:
            row = dict(zip((column.name for column in identity), values, strict=True)) | {"level": key.level}
            ids[values] = connection.execute(insert(Series).values(**row).returning(Series.id)).scalar_one()
        series[key] = ids[values]
    return series


def _layout(connection: Connection, labels: tuple[str, ...]) -> int:
    labels_hash = fingerprint(labels)
    _claim(connection, Layout, fingerprint=labels_hash, labels=list(labels))
    return connection.execute(select(Layout.id).where(Layout.fingerprint == labels_hash)).scalar_one()


def _add_cells(
    connection: Connection,
    resolution: int,
    time: int,
    cells: Mapping[int, tuple[SeriesKey, Array, Array]],
    *,
    elapsed: int,
) -> None:
    where = (Cell.resolution == resolution, Cell.time == time, Cell.series.in_(cells))
    stored_cells = {row.series: row for row in connection.execute(select(Cell.__table__).where(*where))}
    if stored_cells:
        connection.execute(delete(Cell).where(*where))
    rows = []
    for series, (key, sums, counts) in cells.items():
        keep = key.kind in _KEEP_HISTOGRAM and not key.feature and resolution != TOTAL
        rounds, total_elapsed = 1, elapsed
        if series in stored_cells:
            old = stored_cells[series]
            sums = sums + packing.unpack_sums([old.sums])[0]
            counts = counts + packing.unpack_histograms(old.histogram, len(sums)) if keep else counts
            rounds += old.rounds
            total_elapsed += old.elapsed or 0
        rows.append(
            cell_row(
                resolution=resolution,
                series=series,
                time=time,
                rounds=rounds,
                elapsed=total_elapsed,
                sums=sums,
                counts=counts if keep else None,
            )
        )
    if rows:
        connection.execute(insert(Cell), rows)


def cell_row(
    resolution: int,
    series: int,
    time: int,
    rounds: int,
    elapsed: int,
    sums: Array,
    counts: Array | None,
) -> dict[str, Any]:
    """A row of `cell`."""
    histogram = packing.pack_histograms(counts) if counts is not None else None
    return {
        "resolution": resolution,
        "series": series,
        "time": time,
        "rounds": rounds,
        "elapsed": elapsed,
        "sums": packing.pack_sums(sums),
        "histogram": histogram,
    }


def _shared_outcomes(record: RoundRecord) -> dict[str, int]:
    """The counts that most members of a fleet have; empty if they did not answer everything, or there is no fleet."""
    if record.fleet is None:
        return {}
    outcomes = record.outcomes
    of_members = Counter(
        tuple(sorted(outcomes.get(member.replica, {}).items())) for member in record.fleet.members
    )
    shared = dict(of_members.most_common(1)[0][0])
    return shared if set(shared) == {"asked", "answered"} else {}


def _outcomes(record: RoundRecord) -> dict[str, dict[str, int]]:
    """The counts by replica. Of a fleet those that most members share stand once, under `EACH_REPLICA`."""
    shared = _shared_outcomes(record)
    if not shared:
        return record.outcomes
    exceptions = {replica: kinds for replica, kinds in record.outcomes.items() if kinds != shared}
    return {EACH_REPLICA: shared, **exceptions}


def _add_counts(connection: Connection, record: RoundRecord, minute: int) -> None:
    counts = dict(record.counts)
    shared = _shared_outcomes(record)
    if shared:
        # a member has its own counts as differences, so that both may be added up over rounds
        counts = {key: count for key, count in counts.items() if key[0] == ALL_REPLICAS}
        counts.update(((EACH_REPLICA, kind), count) for kind, count in shared.items())
        members = {member.replica for member in record.fleet.members} if record.fleet is not None else set()
        for replica, kinds in record.outcomes.items():
            for kind in {*kinds, *shared}:
                difference = kinds.get(kind, 0) - (shared.get(kind, 0) if replica in members else 0)
                if difference:
                    counts[replica, kind] = difference
    rows = [
        {
            "resolution": resolution,
            "time": time,
            "stream": record.stream,
            "replica": replica,
            "kind": kind,
            "count": count,
        }
        for (replica, kind), count in {**counts, (ALL_REPLICAS, "rounds"): 1}.items()
        for resolution, time in ((MINUTE, minute), (TOTAL, 0))
    ]
    add_counts(connection, rows)


def add_counts(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Adds counts to the stored ones."""
    rows = list(rows)
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(Count)
    statement = statement.on_conflict_do_update(
        index_elements=["resolution", "time", "stream", "replica", "kind"],
        set_={"count": Count.count + statement.excluded.count},
    )
    connection.execute(statement, rows)
