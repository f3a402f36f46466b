"""The store: rounds count once, roll-ups lose nothing and cross no version, retention; on both databases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import func, inspect, select, text

from ranker.divergence import Settings, Statistic, measure_interval
from ranker.errors import UserError
from serving.monitor.measurement.measure import measure
from serving.monitor.measurement.record import Mark, RoundRecord, SeriesKey, Subject
from serving.monitor.measurement.slices import slices
from serving.monitor.store import open_store, packing, query
from serving.monitor.store.cells import load_window, read_cells, window_parts
from serving.monitor.store.rollup import Retention, roll_up
from serving.monitor.store.schema import DAY, HOUR, MINUTE, TEN_MINUTES, Base, Cell, Round, Series
from serving.monitor.store.selection import Selection
from serving.monitor.store.write import write_round


def record_at(time: int, values: list[float], version: int = 1, key: str | None = None) -> RoundRecord:
    """A round of one pair with the given top-1 swaps."""
    a, b = Subject("a", version), Subject("b", 1)
    statistics = {
        "top1_swap": Statistic.of(values),
        "rpd_sym": Statistic.of(np.array(values) + 0.25, np.arange(len(values)) + 1.0),
    }
    return RoundRecord(
        key=key or f"probe/{time}",
        stream="live",
        time=time,
        duration=0.5,
        requests=len(values),
        probe="",
        subjects={a: {"arm": "x"}, b: {}},
        statistics={SeriesKey("live", "pair", a, b, "L5"): statistics},
        counts={("a", "asked"): len(values), ("a", "answered"): len(values)},
    )


def sums_at(store, resolution, start, end):
    with store.read() as connection:
        rows = connection.execute(
            select(Cell.series, Cell.time, Cell.rounds, Cell.sums, Cell.histogram)
            .where(Cell.resolution == resolution, Cell.time >= start, Cell.time < end)
            .order_by(Cell.series, Cell.time)
        ).all()
    return [
        (
            row.series,
            row.time,
            row.rounds,
            packing.unpack_sums([row.sums])[0],
            packing.unpack_histograms(row.histogram, 2),
        )
        for row in rows
    ]


def test_a_round_written_twice_counts_once(store, start):
    record = record_at(start, [0.0, 1.0, 1.0])
    assert write_round(store, record)
    assert not write_round(store, record)
    ((_, _, rounds, sums, _),) = sums_at(store, MINUTE, start, start + DAY)
    assert rounds == 1
    assert sums[0].tolist() == [3, 2, 2, 3, 3, 2]
    assert query.freshness(store, Selection(start + 5, stream="live")).rounds == 1
    assert {
        row.count for row in query.error_kinds(store, Selection.between(start, start + 60, stream="live"))
    } == {3}


def test_rounds_of_one_minute_merge(store, start):
    write_round(store, record_at(start, [0.0, 1.0]))
    write_round(store, record_at(start + 30, [1.0, 1.0]))
    ((_, time, rounds, sums, counts),) = sums_at(store, MINUTE, start, start + DAY)
    direct = Statistic.of([0.0, 1.0, 1.0, 1.0])
    assert (time, rounds) == (start, 2)
    assert packing.to_statistic(sums[0], counts[0]).interval() == direct.interval()
    assert counts[0].tolist() == direct.histogram.counts.tolist()


def test_rolling_up_equals_computing_directly_and_again_changes_nothing(store, start):
    random = np.random.default_rng(3)
    values = {
        start + minute * 60: random.integers(0, 2, 5).astype(float).tolist() for minute in range(0, 150)
    }
    for time, row in values.items():
        write_round(store, record_at(time, row))
    for _ in range(2):
        roll_up(store, start + 3 * HOUR)
        for resolution in (TEN_MINUTES, HOUR):
            for _, time, rounds, sums, counts in sums_at(store, resolution, start, start + DAY):
                inside = [v for t, row in values.items() if time <= t < time + resolution for v in row]
                direct = Statistic.of(inside)
                assert rounds == len(inside) // 5
                assert packing.to_statistic(sums[0]).interval() == direct.interval()
                assert counts[0].tolist() == direct.histogram.counts.tolist()
        assert len(sums_at(store, TEN_MINUTES, start, start + DAY)) == 15
        assert len(sums_at(store, HOUR, start, start + DAY)) == 3
        assert len(sums_at(store, DAY, start, start + DAY)) == 0  # the day is not over


def test_a_late_round_is_rolled_up_too(store, start):
    write_round(store, record_at(start, [0.0]))
    write_round(store, record_at(start + HOUR, [0.0]))
    roll_up(store, start + 2 * HOUR)
    write_round(store, record_at(start + 120, [1.0, 1.0]))
    roll_up(store, start + 2 * HOUR)
    first, _ = sums_at(store, HOUR, start, start + DAY)
    assert first[3][0, 0] == 3
    assert first[3][0, 1] == 2


def test_a_round_of_another_week_is_refused(store, start):
    write_round(store, record_at(start, [0.0]))
    roll_up(store, start + TEN_MINUTES)
    with pytest.raises(UserError, match="older than a day"):
        write_round(store, record_at(start - 8 * DAY, [0.0]))
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(Round)).scalar_one() == 1


def test_a_roll_up_never_crosses_a_version(store, start):
    for minute in range(20):
        write_round(
            store, record_at(start + minute * 60, [float(minute >= 5)], version=1 if minute < 5 else 2)
        )
    roll_up(store, start + HOUR)
    cells = sums_at(store, TEN_MINUTES, start, start + DAY)
    assert [(time - start, rounds, sums[0, 1]) for _, time, rounds, sums, _ in cells] == [
        (0, 5, 0),
        (0, 5, 5),
        (600, 10, 10),
    ]
    lines = query.lines(
        store,
        Selection.between(start, start + HOUR, measure="top1_swap", stream="live", kind="pair", points=10),
    )
    assert [(line.a_version, len(line.points), line.points[0].value) for line in lines] == [
        (1, 1, 0.0),
        (2, 2, 1.0),
    ]


def test_what_is_too_old_goes_after_it_is_rolled_up(store, start):
    retention = Retention(minute=HOUR, ten_minutes=2 * HOUR, hour=3 * HOUR, rounds=HOUR)
    for minute in range(0, 300):
        write_round(store, record_at(start + minute * 60, [1.0]))
        if minute % 60 == 59:
            roll_up(store, start + minute * 60 + 60, retention)
    assert {time for _, time, *_ in sums_at(store, MINUTE, start, start + DAY)} == {
        start + m * 60 for m in range(240, 300)
    }
    assert min(time for _, time, *_ in sums_at(store, TEN_MINUTES, start, start + DAY)) == start + 3 * HOUR
    assert len(sums_at(store, HOUR, start, start + DAY)) == 5  # the day they go to is not over
    with store.read() as connection:
        (row,) = read_cells(connection, Selection.between(start, start + DAY, stream="live", points=1), ())
    assert row.sums[0, 0] == 300  # days are read from hours, ten minutes and minutes until they are over


def test_a_window_is_read_from_the_fewest_cells_and_counts_each_minute_once(store, start):
    minutes = range(150)
    for minute in minutes:
        write_round(store, record_at(start + minute * 60, [float(minute)], version=1 + (50 <= minute < 100)))
    roll_up(store, start + 150 * 60)
    for since, until in ((0, 150), (7, 143), (59, 61), (121, 122), (30, 80)):
        begin, end = start + since * 60, start + until * 60
        with store.read() as connection:
            parts = window_parts(connection, begin, end)
            rows = load_window(
                connection, Selection.between(begin, end, stream="live"), Series.kind == "pair"
            )
        assert [part[1] for part in parts[1:]] == [part[2] for part in parts[:-1]]
        assert (parts[0][1], parts[-1][2]) == (begin, end)
        assert sum((to - begins) // step for step, begins, to in parts) <= 2 * 9 + 2 * 5 + 6
        inside = [minute for minute in minutes if since <= minute < until]
        assert sum(row.sums[0, 1] for row in rows) == sum(inside)
        assert sum(row.rounds for row in rows) == len(inside)
        assert rows[-1].a_version == 1 + (50 <= inside[-1] < 100)  # the newest comes last


def test_totals_never_go_down(store, start):
    for minute in range(5):
        write_round(store, record_at(start + minute * 60, [1.0, 0.0], version=minute))
        counts, statistics = query.totals(store)
        (total,) = statistics
        a, b, found, rounds = total.a, total.b, total.statistics, total.rounds
        assert (a, b, rounds, found["top1_swap"].n, found["top1_swap"].total) == (
            "a",
            "b",
            minute + 1,
            2 * minute + 2,
            minute + 1,
        )
        assert {row.count for row in counts if row.kind == "live/asked"} == {2 * minute + 2}


def test_a_failed_write_leaves_nothing(store, start):
    broken = record_at(start, [1.0])
    broken = replace(broken, counts={("a", "asked"): 1, ("a", "x" * 10): None})  # type: ignore[dict-item]
    with pytest.raises(Exception, match=r"(?i)null|none"):
        write_round(store, broken)
    with store.read() as connection:
        for table in ("round", "cell", "series", "count", "subject"):
            assert connection.execute(text(f'SELECT count(*) FROM "{table}"')).scalar_one() == 0
    assert write_round(store, record_at(start, [1.0]))


def test_migrations_give_exactly_the_tables_of_the_schema(store):
    found = inspect(store.engine)
    assert set(found.get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    for name, table in Base.metadata.tables.items():
        assert [column["name"] for column in found.get_columns(name)] == [
            column.name for column in table.columns
        ]


def test_a_store_opens_again_with_what_it_had(sqlite_store, start):
    write_round(sqlite_store, record_at(start, [1.0]))
    again = open_store(sqlite_store.url)
    assert query.freshness(again, Selection(start + 1, stream="live")).time == start
    again.close()


@pytest.mark.parametrize(
    "target",
    [
        "nowhere/at/all/monitor.db",
        "mysql://h/d",
        "oracle://h/d",
        "://",
        "postgresql://nobody@127.0.0.1:9/none?connect_timeout=2",
    ],
)
def test_a_store_that_cannot_be_opened_is_one_line(target):
    with pytest.raises(UserError, match="Received") as caught:
        open_store(target)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_store(tmp_path):
    (tmp_path / "monitor.db").write_text("this is not a database, and long enough to be taken for one " * 50)
    with pytest.raises(UserError, match="cannot be opened"):
        open_store(tmp_path / "monitor.db")


def test_a_newer_store_is_left_alone(sqlite_store):
    with sqlite_store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UserError, match="newer"):
        open_store(sqlite_store.url)


def test_a_store_that_must_exist(tmp_path):
    with pytest.raises(UserError, match="run the monitor first"):
        open_store(tmp_path / "none.db", create=False)


def test_a_password_is_not_shown():
    with pytest.raises(UserError) as caught:
        open_store("postgresql://user:secret@127.0.0.1:9/none?connect_timeout=2")
    assert "secret" not in str(caught.value)


def test_measured_rounds_come_back_whole(store, simulate, start):
    simulation = simulate([0.2, 0.2, 0.4], requests=30)
    measured = measure(simulation.round(start), Settings(), slices(simulation.probe, ("age",)), {})
    write_round(store, measured.record)
    comparison = measured.requests.summarise()
    now = query.snapshot(store, Selection(start + 10))
    for label, statistic in comparison.means.items():
        assert now.measures[label].value == pytest.approx(measure_interval(label, statistic), nan_ok=True)
    matrix = query.matrix(store, Selection(start + 10, measure="rpd_sym"))
    assert matrix.replicas == ("m0", "m1", "m2")
    np.testing.assert_allclose(matrix.values, comparison.matrix("rpd_sym"))
    odd = query.odd_one_out(store, Selection(start + 10))
    assert {one.replica: one.value.value for one in odd.components} == pytest.approx(
        {name: found["component"].value for name, found in comparison.replicas.items()}
    )
    assert {
        (row.feature, row.value) for row in query.slices(store, Selection(start + 10, measure="top1_swap"))
    } == {
        ("age", "20"),
        ("age", "30"),
    }
    assert [rung.level for rung in query.ladder(store, Selection(start + 10, measure="rpd_sym"))] == [
        "L0",
        "L3",
    ]


def test_a_refresh_made_again_after_a_roll_back_is_a_mark_of_its_own(store, start):
    forth = Mark("refresh/a/1/x/2/y", "refresh", "a", {"old": 1, "new": 2})
    back = Mark("refresh/a/2/y/1/x", "refresh", "a", {"old": 2, "new": 1})
    for minute, (mark, monitor) in enumerate(
        [(forth, "one"), (forth, "another"), (back, "one"), (forth, "one"), (forth, "another")]
    ):
        record = record_at(start + 60 * minute, [1.0, 0.0], key=f"{monitor}/{minute}")
        write_round(store, replace(record, marks=(mark,)))
    marks = query.events(store, Selection.between(start, start + HOUR))
    assert sorted((mark.time - start, mark.detail["new"]) for mark in marks) == [(0, 2), (120, 1), (180, 2)]
