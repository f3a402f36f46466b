"""A store that is locked, full, read-only, damaged or away: rounds wait, then some are dropped, and the monitor lives."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter

import pytest
from sqlalchemy import event, text

from ranker.config.deployment import Monitor as Settings
from ranker.divergence import Settings as MeasureSettings
from ranker.errors import UserError
from serving.deployment import Deployment, Replica
from serving.monitor import run as monitor_run
from serving.monitor.alerts.rules import load_rules
from serving.monitor.measurement.measure import measure
from serving.monitor.measurement.record import LIVE
from serving.monitor.prometheus import StoreCollector
from serving.monitor.requests.reservoir import MirroredCall, Reservoir
from serving.monitor.run import DeploymentMonitor, run
from serving.monitor.store import database, open_store, query
from serving.monitor.store.pending import PendingRounds
from serving.monitor.store.selection import Selection

SETTINGS = Settings(interval=0.2, deadline=5, requests=20)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(database, "_SQLITE_BUSY", 100)
    monkeypatch.setattr(monitor_run, "_STORE_RETRY", 0.2)


@pytest.fixture
def replicas(fake_replica, noisy):
    return [fake_replica(name=name, mangle=noisy(seed, 0.05)) for seed, name in enumerate("ab")]


def deployment(fakes):
    return Deployment("ranker", tuple(Replica(fake.name, fake.target) for fake in fakes))


def locked(store, path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection.close


def limited(*pragmas):
    """A fault of SQLite's own: what it says when a pragma forbids the write."""

    def fault(store, path):
        def apply(connection, _record):
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}")

        event.listen(store.engine, "connect", apply)
        store.engine.dispose()

        def repair():
            event.remove(store.engine, "connect", apply)
            store.engine.dispose()

        return repair

    return fault


def without_a_table(name):
    def fault(store, path):
        def rename(old, new):
            with store.write() as connection:
                connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

        rename(name, "gone")
        return lambda: rename("gone", name)

    return fault


def damaged(store, path):
    store.engine.dispose()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    content = path.read_bytes()
    path.write_bytes(b"no database " * 1000)

    def repair():
        store.engine.dispose()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(content)

    return repair


FAULTS = {
    "locked": (locked, "locked"),
    "full": (limited("max_page_count=1"), "full"),
    "read-only": (limited("query_only=ON"), "readonly"),
    "damaged": (damaged, "not a database"),
    "another schema": (without_a_table("cell"), "no such table"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_rounds_wait_while_the_store_takes_none_and_are_stored_once(name, replicas, probe, tmp_path, caplog):
    fault, says = FAULTS[name]
    path = tmp_path / "monitor.db"
    store = open_store(path)
    monitor = DeploymentMonitor(
        deployment(replicas), SETTINGS, probe, store, rules=load_rules(), reservoir=Reservoir(20)
    )
    repair = fault(store, path)
    summary = monitor.round()
    assert summary.replicas == {"a": 3, "b": 3}
    assert len(monitor.pending) == 1
    assert says in monitor.pending.error
    assert says in caplog.text
    monitor.round()
    assert len(monitor.pending) == 2
    repair()
    monitor.round()
    assert (len(monitor.pending), monitor.pending.error) == (0, "")
    assert "takes rounds again" in caplog.text
    assert query.freshness(store, Selection(time.time())).rounds == 3
    counts, _ = query.totals(store)
    assert {row.count for row in counts if row.kind == "probe/asked"} == {3 * len(probe)}
    assert query.dropped_rounds(store) == 0
    store.close()


def test_alerts_and_roll_ups_that_fail_cost_no_round(replicas, probe, tmp_path, caplog):
    store = open_store(tmp_path / "monitor.db")
    monitor = DeploymentMonitor(deployment(replicas), SETTINGS, probe, store, rules=load_rules())
    for table, says in (("alert", "alerts wait"), ("rolled_up", "")):
        repair = without_a_table(table)(store, None)
        monitor.round()
        assert says in caplog.text
        repair()
    monitor.round()
    assert query.freshness(store, Selection(time.time())).rounds == 3
    store.close()


def test_what_does_not_fit_is_dropped_the_oldest_first_and_counted(simulate, sqlite_store, start, caplog):
    simulation = simulate([0.1, 0.1])
    pending = PendingRounds(sqlite_store, most=2)
    records = [
        measure(
            simulation.round(start + 60 * n),
            MeasureSettings(),
            (),
            {},
            stream=LIVE,
            mirrored={"seen": 10, "sampled": 4},
        ).record
        for n in range(5)
    ]
    repair = limited("query_only=ON")(sqlite_store, None)
    for record in records:
        pending.add(record)
        assert not pending.flush()
    assert len(pending) == 2
    assert caplog.text.count("a round is dropped") == 3
    repair()
    assert pending.flush()
    now = start + 600
    assert query.freshness(sqlite_store, Selection(now, stream=LIVE)).time == records[-1].time
    assert query.freshness(sqlite_store, Selection(now, stream=LIVE)).rounds == 2
    assert query.dropped_rounds(sqlite_store) == 3
    # the calls of dropped rounds are counted, though nobody measured them
    assert query.mirrored(sqlite_store, Selection.between(start, now)) == {"seen": 50, "sampled": 20}
    page = metrics(sqlite_store)
    assert page["ranker_monitor_rounds_dropped_total", LIVE] == 3
    assert page["ranker_monitor_rounds_total", LIVE] == 2
    assert page["ranker_mirrored_requests_total", "seen"] == 50


def metrics(store, pending=None):
    families = StoreCollector(store, {}, pending=pending).collect()
    samples = [sample for family in families for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


def test_a_round_from_before_what_is_kept_is_dropped_and_the_next_is_not(simulate, sqlite_store, start):
    simulation = simulate([0.1, 0.1])
    pending = PendingRounds(sqlite_store)
    for moment in (start, start - 9 * 86_400, start + 60):
        pending.add(measure(simulation.round(moment), MeasureSettings(), (), {}).record)
        assert pending.flush()
        monitor_run.roll_up(sqlite_store, start + 3600)
    assert query.freshness(sqlite_store, Selection(start + 3500)).rounds == 2
    assert query.dropped_rounds(sqlite_store) == 1


def test_the_metrics_page_says_that_the_store_is_away(sqlite_store):
    pending = PendingRounds(sqlite_store)
    page = metrics(sqlite_store, pending)
    assert page["ranker_monitor_store_up",] == 1.0
    assert page["ranker_monitor_rounds_waiting",] == 0.0
    without_a_table("count")(sqlite_store, None)
    assert metrics(sqlite_store, pending) == {
        ("ranker_monitor_store_up",): 0.0,
        ("ranker_monitor_rounds_waiting",): 0.0,
    }


def test_one_round_that_the_store_does_not_take_is_a_mistake_of_one_line(
    replicas, probe, tmp_path, monkeypatch
):
    monkeypatch.setattr(monitor_run, "_STORE_PATIENCE", 1.5)
    path = tmp_path / "monitor.db"
    store = open_store(path)
    release = locked(store, path)
    with pytest.raises(UserError, match=r"the round is not stored: .*locked"):
        run(deployment(replicas), SETTINGS, probe, path, once=True)
    release()
    assert run(deployment(replicas), SETTINGS, probe, path, once=True) is not None
    assert query.freshness(store, Selection(time.time())).rounds == 1
    store.close()


def test_calls_are_mirrored_while_the_store_is_away(replicas, probe, tmp_path):
    path = tmp_path / "monitor.db"
    store = open_store(path)
    monitor = DeploymentMonitor(deployment(replicas), SETTINGS, probe, store, reservoir=Reservoir(20))
    release = locked(store, path)
    for _ in range(3):
        monitor.reservoir.offer(MirroredCall(b"\xff"))
        assert monitor.round().mirrored["seen"] == 1
    release()
    assert monitor.pending.flush()
    assert query.mirrored(store, Selection.between(time.time() - 60, time.time() + 1))["unreadable"] == 3
    store.close()


@pytest.mark.postgres
def test_a_database_that_is_stopped_and_started_loses_no_round(replicas, probe, own_postgres, caplog):
    stop, failures = threading.Event(), Counter()
    url = own_postgres.url % "postgres"
    summaries = []

    def on_round(summary):
        summaries.append(summary)
        failures[caplog.text.count("takes no rounds") > 0] += 1
        if len(summaries) == 2:
            own_postgres.stop()
        if failures[True] == 3 and len(summaries) > 4:
            own_postgres.start()
        if "takes rounds again" in caplog.text:
            stop.set()

    run(deployment(replicas), SETTINGS, probe, url, rules=load_rules(), stop=stop, on_round=on_round)
    store = open_store(url)
    assert query.freshness(store, Selection(time.time())).rounds == len(summaries)
    assert query.dropped_rounds(store) == 0
    assert any(summary.verdict is None for summary in summaries)
    store.close()


@pytest.mark.postgres
def test_a_frozen_database_costs_the_round_in_flight_and_loses_none(
    replicas, probe, own_postgres, caplog, monkeypatch
):
    monkeypatch.setattr(database, "_LONGEST_USE", 2.0)
    store = open_store(own_postgres.url % "postgres" + "&connect_timeout=2")
    monitor = DeploymentMonitor(deployment(replicas), SETTINGS, probe, store, rules=load_rules())
    assert monitor.round().verdict is not None
    own_postgres.freeze()
    rounds = []
    # in a thread, so that a monitor that hangs fails this test and not all that follow
    frozen = threading.Thread(target=lambda: rounds.extend(monitor.round() for _ in range(2)), daemon=True)
    frozen.start()
    frozen.join(300)
    assert not frozen.is_alive()
    assert [summary.verdict for summary in rounds] == [None, None]
    assert [summary.replicas for summary in rounds] == [{"a": 3, "b": 3}] * 2
    assert len(monitor.pending) == 2
    assert "takes no rounds" in caplog.text
    own_postgres.thaw()
    assert monitor.round().verdict is not None
    assert "takes rounds again" in caplog.text
    assert query.freshness(store, Selection(time.time())).rounds == 4
    assert query.dropped_rounds(store) == 0
    store.close()


@pytest.mark.postgres
def test_a_table_that_another_session_locks_does_not_hang_the_monitor(replicas, probe, postgres_url):
    store = open_store(f"{postgres_url}&options=-c%20lock_timeout%3D300")
    monitor = DeploymentMonitor(deployment(replicas), SETTINGS, probe, store)
    with store.engine.connect() as other:
        other.execute(text('LOCK TABLE "round" IN ACCESS EXCLUSIVE MODE'))
        summary = monitor.round()
        assert summary.replicas == {"a": 3, "b": 3}
        assert "lock timeout" in monitor.pending.error
    assert monitor.pending.flush()
    assert query.freshness(store, Selection(time.time())).rounds == 1
    store.close()


def test_postgresql_has_timeouts_unless_the_url_says_otherwise(postgres_url):
    for extra, expected in (("", "10s"), ("&options=-c%20lock_timeout%3D1234", "1234ms")):
        store = open_store(postgres_url + extra)
        with store.read() as connection:
            assert connection.execute(text("SHOW lock_timeout")).scalar_one() == expected
        store.close()
