"""`--mirror SHARE`: that share of Predict calls reaches the monitor as it was, and callers never depend on it."""

from __future__ import annotations

import signal
import socket
import time

from serving import wire
from tests.processes import wait_until
from tests.serving.gateway.conftest import Callers, call, request_bytes


def mirrored_to(monitor, share: float = 1.0) -> tuple[str, ...]:
    return (f"--mirror={share}", f"--monitor={monitor.target}")


def test_predict_calls_alone_reach_the_monitor_as_they_are(fake_replica, gateway):
    replica, monitor = fake_replica(name="a"), fake_replica(name="monitor")
    running = gateway([replica], *mirrored_to(monitor))
    for number in range(20):
        answer, name = call(running.target, metadata=(("x-request-id", f"r-{number}"),))
        assert name == "a"
        assert answer == call(replica.target)[0]
    call(running.target, wire.GET_MODEL_METADATA.path, b"")
    wait_until(lambda: len(monitor.requests()) == 20)
    assert {request.SerializeToString() for request in monitor.requests()} == {request_bytes()}
    assert {dict(metadata)["x-request-id"] for metadata in monitor.metadata} == {f"r-{n}" for n in range(20)}
    assert {path for path, _ in monitor.calls} == {wire.PREDICT.path}


def test_what_the_gateway_mirrors_is_measured(fake_replica, gateway, tmp_path):
    """The real monitor at the other end: live calls in its store, counted once each."""
    from ranker.address import HostPort
    from ranker.config.deployment import Monitor as Settings
    from serving.deployment import Deployment, Replica
    from serving.monitor.requests.mirror import MirrorListener
    from serving.monitor.requests.reservoir import Reservoir
    from serving.monitor.run import DeploymentMonitor
    from serving.monitor.store import open_store, query
    from serving.monitor.store.selection import Selection
    from tests.serving.monitor.conftest import small_probe

    replicas = [fake_replica(name=name) for name in "ab"]
    reservoir = Reservoir(10)
    listener = MirrorListener(HostPort("127.0.0.1", 0), reservoir)
    store = open_store(tmp_path / "monitor.db")
    try:
        running = gateway(replicas, "--mirror=1", f"--monitor=127.0.0.1:{listener.port}")
        for number in range(30):
            call(running.target, metadata=(("x-request-id", f"r-{number}"),))
        deployment = Deployment("ranker", tuple(Replica(fake.name, fake.target) for fake in replicas))
        monitor = DeploymentMonitor(
            deployment, Settings(requests=10), small_probe(), store, reservoir=reservoir
        )
        outcomes = dict.fromkeys(("seen", "sampled", "dropped", "unreadable"), 0)

        def all_seen() -> bool:
            for outcome, count in monitor.round().mirrored.items():
                outcomes[outcome] += count
            return outcomes["seen"] == 30

        wait_until(all_seen)
        assert 10 <= outcomes["sampled"] <= 30
        assert outcomes["dropped"] == outcomes["unreadable"] == 0
        assert query.mirrored(store, Selection.between(time.time() - 3600, time.time() + 1)) == outcomes
        live = query.snapshot(store, Selection(time.time() + 1, stream="live"))
        assert live.coverage == {"a": 1.0, "b": 1.0}
        assert live.measures["pd_abs"].n == outcomes["sampled"]
        assert live.measures["pd_abs"].value.value == 0.0
    finally:
        listener.close()
        store.close()


def test_the_share_is_the_share(fake_replica, gateway):
    replica, monitor = fake_replica(name="a"), fake_replica(name="monitor")
    running = gateway([replica], *mirrored_to(monitor, 0.25))
    with Callers(running.target, threads=4) as callers:
        callers.answered(1600)
    # the number of mirrored calls is binomial: five standard deviations either way
    calls = len(replica.requests())
    wait_until(lambda: abs(len(monitor.requests()) - 0.25 * calls) < 5 * (0.1875 * calls) ** 0.5)


def test_a_dead_monitor_costs_no_call(fake_replica, gateway):
    replica, monitor = fake_replica(name="a"), fake_replica(name="monitor")
    monitor.stop()
    running = gateway([replica], *mirrored_to(monitor))
    with Callers(running.target) as callers:
        callers.answered(500)
    assert not callers.errors


def test_a_monitor_that_hangs_costs_no_call(fake_replica, replica_process, gateway):
    replica, monitor = fake_replica(name="a"), replica_process("monitor")
    running = gateway([replica], *mirrored_to(monitor))
    with Callers(running.target) as callers:
        callers.answered(100)
        monitor.send(signal.SIGSTOP)
        callers.answered(3000)  # more than may wait for the monitor
        monitor.kill()
        callers.answered(100)
        monitor.start()
        callers.answered(100)
    assert not callers.errors
    assert running.metric("envoy_cluster_upstream_rq_active_overflow", envoy_cluster_name="monitor") > 0


def test_a_monitor_that_refuses_or_takes_no_connection_costs_no_call(fake_replica, gateway):
    replica = fake_replica(name="a")
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections, never speaks
        port = deaf.getsockname()[1]
        running = gateway([replica], "--mirror=1", f"--monitor=127.0.0.1:{port}")
        with Callers(running.target) as callers:
            callers.answered(500)
    assert not callers.errors
    running = gateway([replica], "--mirror=1", "--monitor=no.such.host.invalid:1")
    with Callers(running.target) as callers:
        callers.answered(200)
    assert not callers.errors


def test_a_dead_replica_and_mirroring_together_fail_no_call(replica_process, fake_replica, gateway):
    a, b, monitor = replica_process("a"), replica_process("b"), fake_replica(name="monitor")
    running = gateway([a, b], *mirrored_to(monitor))
    with Callers(running.target) as callers:
        callers.answered(50, by="b")
        b.kill()
        callers.answered(300, by="a")
    assert not callers.errors
