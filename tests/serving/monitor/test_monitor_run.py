"""The loop: one round's summary, several rounds, a kill -9 in the middle, SIGTERM, and what cannot start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from sqlalchemy import text

from ranker.config.deployment import Monitor as Settings
from ranker.errors import UserError
from serving import wire
from serving.deployment import Deployment, Replica
from serving.monitor.alerts.rules import load_rules
from serving.monitor.measurement.exemplars import Exemplars, read_exemplars
from serving.monitor.run import run
from serving.monitor.store import open_store, query
from serving.monitor.store.selection import Selection
from serving.watch import sentence

SETTINGS = Settings(interval=0.3, deadline=5, requests=20, slices=("age",))


def deployment(*fakes):
    return Deployment("ranker", tuple(Replica(fake.name, fake.target) for fake in fakes))


@pytest.fixture
def replicas(fake_replica, noisy):
    return [fake_replica(name=name, mangle=noisy(seed, 0.05)) for seed, name in enumerate("abc")]


def test_one_round_gives_a_summary_and_fills_the_store(replicas, probe, tmp_path):
    summary = run(
        deployment(*replicas),
        SETTINGS,
        probe,
        tmp_path / "monitor.db",
        once=True,
        rules=load_rules(),
        exemplars=Exemplars(tmp_path / "exemplars"),
    )
    assert summary.replicas == {"a": 3, "b": 3, "c": 3}
    assert summary.requests == len(probe)
    assert set(summary.measures["top1_swap"]) >= {"value", "low", "high"}
    json.dumps(summary.as_dict(), allow_nan=False)
    store = open_store(tmp_path / "monitor.db")
    now = time.time()
    verdict = query.snapshot(store, Selection(now))
    assert verdict.measures["top1_swap"].value.value == pytest.approx(summary.measures["top1_swap"]["value"])
    assert verdict.coverage == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert read_exemplars(tmp_path / "exemplars", "probe", now - 7200, now + 60)
    store.close()


def test_rounds_go_on_until_stopped(replicas, probe, tmp_path):
    stop, summaries = threading.Event(), []

    def on_round(summary):
        summaries.append(summary)
        if len(summaries) == 3:
            stop.set()

    run(deployment(*replicas), SETTINGS, probe, tmp_path / "monitor.db", stop=stop, on_round=on_round)
    assert len(summaries) == 3
    store = open_store(tmp_path / "monitor.db")
    assert query.freshness(store, Selection(time.time())).rounds == 3
    store.close()


def test_a_refresh_while_the_monitor_was_away_is_measured(replicas, probe, tmp_path, noisy):
    path, kept = tmp_path / "monitor.db", Exemplars(tmp_path / "exemplars")
    run(deployment(*replicas), SETTINGS, probe, path, once=True, exemplars=kept)
    replicas[1].version, replicas[1].mangle = 4, noisy(50, 0.05)
    run(deployment(*replicas), SETTINGS, probe, path, once=True, exemplars=kept)
    store = open_store(path)
    now = time.time()
    (mark,) = query.events(store, Selection.between(now - 600, now + 60))
    assert (mark.kind, mark.replica, mark.detail) == ("refresh", "b", {"old": 3, "new": 4})
    (line,) = query.lines(store, Selection.between(now - 600, now + 60, measure="pd_abs", kind="refresh"))
    assert (line.a_version, line.b_version) == (3, 4)
    assert line.points[0].value > 0.01
    courses = [
        query.lines(
            store,
            Selection.between(
                now - 600, now + 60, measure=f"observed_inversion@tenth-{n}", kind="gaps", a="a", b="c"
            ),
        )
        for n in range(1, 11)
    ]
    shares = [line.points[0].value for (line,) in courses if line.points[0].n]
    assert shares
    assert all(0 <= share <= 1 for share in shares)
    assert max(shares) > 0
    store.close()
    (tmp_path / "exemplars" / "served.npz").write_bytes(b"torn")
    assert run(deployment(*replicas), SETTINGS, probe, path, once=True, exemplars=kept) is not None


def test_unfinished_files_of_a_monitor_that_was_killed_are_removed(replicas, probe, tmp_path):
    directory = tmp_path / "exemplars"
    directory.mkdir()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    leftover = directory / f".tmp-{socket.gethostname()}-{ended.pid}-01234567"
    unfinished = directory / f".tmp-{socket.gethostname()}-{os.getpid()}-01234567"
    for path in (leftover, unfinished):
        path.write_bytes(b"part of a file")
    run(
        deployment(*replicas),
        SETTINGS,
        probe,
        tmp_path / "monitor.db",
        once=True,
        exemplars=Exemplars(directory),
    )
    assert not leftover.exists()
    assert unfinished.exists()


def test_a_directory_that_cannot_be_written_costs_examples_and_no_rounds(replicas, probe, tmp_path, caplog):
    (tmp_path / "taken").write_text("a file, where a directory should be made")
    path, kept = tmp_path / "monitor.db", Exemplars(tmp_path / "taken" / "exemplars")
    run(deployment(*replicas), SETTINGS, probe, path, once=True, exemplars=kept)
    store = open_store(path)
    assert query.freshness(store, Selection(time.time())).rounds == 1
    store.close()
    assert caplog.text.count("cannot be kept") == 2


def test_who_was_left_out_is_said_in_the_words_of_every_report(replicas, fake_replica, probe, tmp_path):
    odd = fake_replica(name="odd")

    def mangle(response):
        if isinstance(response, wire.PredictResponse) and "score" in response.outputs and len(odd.calls) % 2:
            response.outputs["score"].CopyFrom(wire.to_tensor(np.full((8, 1), np.nan, np.float32)))
        return response

    odd.mangle = mangle
    summary = run(deployment(*replicas, odd), SETTINGS, probe, tmp_path / "monitor.db", once=True)
    coverage = summary.coverage["odd"]
    assert coverage.asked == len(probe)
    assert 0 < coverage.answered < len(probe)
    ((kind, entry),) = coverage.left_out.items()
    assert (kind, entry.requests) == ("invalid_score", coverage.asked - coverage.answered)
    assert entry.first in probe.requests
    assert summary.coverage["a"].share == 1.0
    line = sentence(summary, SETTINGS)
    assert f"odd: {coverage.words}" in line
    assert "a: " not in line.replace("odd: ", "")
    json.dumps(summary.as_dict(), allow_nan=False)


def test_all_replicas_down_is_a_round_too(fake_replica, probe, tmp_path):
    fake = fake_replica(name="a")
    fake.stop()
    summary = run(deployment(fake), SETTINGS, probe, tmp_path / "monitor.db", once=True)
    assert summary.replicas == {}
    assert summary.measures == {}
    assert summary.errors == {"a": {"down": len(probe)}}
    assert summary.coverage["a"].words == "40 asked, 0 answered, 40 left out (down 40, first r0)"


MONITOR = textwrap.dedent(
    """
    import sys
    from ranker.config.deployment import Monitor as Settings
    from serving.deployment import from_targets
    from serving.monitor.run import run, stop_on_signals
    from tests.serving.monitor.conftest import small_probe
    with stop_on_signals() as stop:
        run(from_targets(sys.argv[2:]), Settings(interval=0.05, requests=20), small_probe(), sys.argv[1], stop=stop,
            on_round=lambda summary: print(len(summary.replicas), flush=True))
    assert "tensorflow" not in sys.modules
    """
)


@contextmanager
def monitor_of(store, fakes):
    command = [sys.executable, "-c", MONITOR, str(store), *(f"{fake.name}={fake.target}" for fake in fakes)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as monitor:
        try:
            yield monitor
        finally:
            monitor.kill()


def test_kill_9_at_any_point_loses_at_most_the_round_in_flight_and_doubles_none(replicas, probe, tmp_path):
    path = tmp_path / "monitor.db"
    told = 0
    for delay in (0.0, 0.1):
        with monitor_of(path, replicas) as monitor:
            for _ in range(3):
                assert monitor.stdout.readline().strip() == "3"
                told += 1
            time.sleep(delay)
            monitor.send_signal(signal.SIGKILL)
            told += len(monitor.stdout.read().split())
    store = open_store(path)
    with store.read() as connection:
        rounds = connection.execute(text("SELECT count(*) FROM round")).scalar_one()
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    # a round is told after it is stored: each kill may leave one that was stored and not told
    assert told <= rounds <= told + 2
    counts, statistics = query.totals(store)
    assert {row.count for row in counts if row.kind == "probe/asked"} == {rounds * len(probe)}
    assert {total.statistics["pd_abs"].n for total in statistics if total.kind == "pair"} == {
        rounds * len(probe)
    }
    store.close()


def test_sigterm_ends_after_the_round_under_way(replicas, tmp_path):
    with monitor_of(tmp_path / "monitor.db", replicas) as monitor:
        assert monitor.stdout.readline().strip() == "3"
        monitor.send_signal(signal.SIGTERM)
        monitor.stdout.read()
        assert monitor.wait(60) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"metrics": "nowhere"}, "host:port"),
        ({"metrics": "127.0.0.1:99999"}, "host:port"),
        ({"mirror_listen": "8602"}, "the mirror address must read host:port"),
        ({}, "must name features"),
    ],
)
def test_what_cannot_start_is_one_line(replicas, probe, tmp_path, options, says):
    settings = SETTINGS if options else Settings(slices=("nothing",))
    with pytest.raises(UserError, match=says):
        run(deployment(*replicas), settings, probe, tmp_path / "monitor.db", once=True, **options)
