"""`ranker gateway drain NAME` and `restore NAME`: one command, no failed call, never the last one unasked."""

from __future__ import annotations

import contextlib
import io
import signal
import threading

from typer.main import get_command

from ranker.cli import app
from tests.processes import wait_until
from tests.serving.gateway.conftest import Callers, call, mistake, ranker


def command(running, *arguments: str) -> str:
    """Runs the command line in this process; returns what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        file = f"--replicas-file={running.replicas_file}"
        get_command(app).main(["gateway", *arguments, file], standalone_mode=False)
    return printed.getvalue()


def test_draining_under_load_fails_no_call(fake_replica, gateway):
    replicas = [fake_replica(name=name, predict_delay=0.01) for name in "abc"]
    running = gateway(replicas)
    with Callers(running.target) as callers:
        for _ in range(2):
            callers.answered(30, by="b")
            done = ranker("gateway", "drain", "b", f"--replicas-file={running.replicas_file}")
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("b is drained; ")
            wait_until(lambda: running.admin().hosts({("127.0.0.1", replicas[1].port): "b"})["b"].active == 0)
            callers.forget()
            callers.answered(100)
            assert callers.replicas.keys() == set("ac")
            assert command(running, "restore", "b") == "b gets calls again\n"
        callers.answered(30, by="b")
    assert not callers.errors


def test_calls_under_way_at_a_drained_replica_finish(fake_replica, gateway):
    slow, well = fake_replica(name="slow"), fake_replica(name="well")
    running = gateway([slow, well], "--hedge=0", "--balance=round-robin")
    slow.predict_delay = 3.0
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(call(running.target)[1])) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: bool(slow.requests()))
    assert "under way" in command(running, "drain", "slow")
    for thread in threads:
        thread.join()
    assert "slow" in answers


def test_the_last_healthy_replica_is_not_drained_unasked(replica_process, gateway):
    a, b = replica_process("a"), replica_process("b")
    running = gateway([a, b])
    a.send(signal.SIGSTOP)
    wait_until(lambda: running.healthy() == 1)
    file = f"--replicas-file={running.replicas_file}"
    done = ranker("gateway", "drain", "b", file)
    assert done.returncode == 1
    assert done.stderr == (
        "ranker: b is the last healthy replica: without it every call fails. Drain it anyway with --force\n"
    )
    command(running, "drain", "a")
    a.send(signal.SIGCONT)
    assert "b is the last healthy replica" in mistake("gateway", "drain", "b", file)
    command(running, "drain", "b", "--force")
    command(running, "restore", "b")
    wait_until(lambda: running.healthy() == 1)
    assert call(running.target)[1] == "b"


def test_a_drained_replica_stays_so_over_a_restart(fake_replica, gateway, tmp_path):
    replicas = [fake_replica(name=name) for name in "ab"]
    running = gateway(replicas)
    command(running, "drain", "b")
    assert "it was before" in command(running, "drain", "b")
    running.stop()
    assert "no gateway runs here" in command(running, "drain", "b")
    again = gateway(replicas, f"--replicas-file={running.replicas_file}", reachable=1)
    assert "2 replicas (b drained)" in again.log
    assert {call(again.target)[1] for _ in range(10)} == {"a"}
    again.replicas_file = running.replicas_file
    command(again, "restore", "b")
    wait_until(lambda: again.healthy() == 2)


def test_mistakes_are_one_line(fake_replica, gateway, tmp_path):
    running = gateway([fake_replica(name="a")])
    file = f"--replicas-file={running.replicas_file}"
    cases = [
        (("drain", "b", file), "the gateway has no such replica (it has a). Received: b"),
        (("drain", "a", file), "a is the last healthy replica"),
        (("drain", "a"), "give --run-dir or --replicas-file"),
        (("drain", "a", f"--run-dir={tmp_path}"), "no gateway keeps its replicas here"),
    ]
    for arguments, message in cases:
        assert message in mistake("gateway", *arguments)
    assert not (tmp_path / "gateway").exists()
