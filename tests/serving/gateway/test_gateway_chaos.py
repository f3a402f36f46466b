"""No call fails while a healthy replica exists, whatever befalls the others."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter

import grpc
import pytest

from serving import wire
from tests.processes import wait_until
from tests.serving.gateway.conftest import Callers, call, request_bytes


def shares(callers: Callers) -> dict[str, float]:
    total = sum(callers.replicas.values())
    return {name: count / total for name, count in callers.replicas.items()}


def test_a_killed_replica_fails_no_call_and_comes_back(replica_process, gateway):
    replicas = [replica_process(name) for name in "abc"]
    running = gateway(replicas)
    with Callers(running.target) as callers:
        callers.answered(100, by="b")
        replicas[1].kill()
        wait_until(lambda: running.healthy() == 2)
        callers.answered(200)
        replicas[1].start()
        callers.answered(50, by="b")
    assert not callers.errors


def test_a_stopped_process_fails_no_call_and_comes_back(replica_process, gateway):
    """SIGSTOP: its port still takes connections, and its answers never come."""
    replicas = [replica_process(name) for name in "abc"]
    running = gateway(replicas, "--hedge=300")
    with Callers(running.target) as callers:
        callers.answered(100, by="b")
        replicas[1].send(signal.SIGSTOP)
        wait_until(lambda: running.healthy() == 2)
        callers.forget()
        callers.answered(200)
        assert callers.replicas.keys() == set("ac")
        replicas[1].send(signal.SIGCONT)
        callers.answered(50, by="b")
    assert not callers.errors


def test_a_stopped_process_fails_no_call_with_the_defaults(replica_process, gateway):
    replicas = [replica_process(name) for name in "ab"]
    running = gateway(replicas)
    with Callers(running.target) as callers:
        callers.answered(50, by="b")
        replicas[1].send(signal.SIGSTOP)
        wait_until(lambda: running.healthy() == 1)
        callers.answered(100, by="a")
    assert not callers.errors


def test_a_slow_replica_is_overtaken_and_ejected_and_comes_back(fake_replica, gateway):
    slow, well = fake_replica(name="slow"), fake_replica(name="well")
    running = gateway([slow, well], "--hedge=200", "--balance=round-robin")
    with Callers(running.target) as callers:
        callers.answered(50, by="slow")
        slow.predict_delay = 3.0
        wait_until(lambda: running.metric("envoy_cluster_outlier_detection_ejections_enforced_total") >= 1)
        callers.answered(100, by="well")
        slow.predict_delay = 0.0
        callers.answered(50, by="slow")
    assert not callers.errors


@pytest.mark.parametrize(
    "code", ["NOT_FOUND", "INTERNAL", "FAILED_PRECONDITION", "UNKNOWN", "RESOURCE_EXHAUSTED", "UNAVAILABLE"]
)
def test_an_error_of_one_replica_alone_is_made_up_for(fake_replica, gateway, code):
    wrong, well = fake_replica(name="wrong"), fake_replica(name="well")
    running = gateway([wrong, well])
    wrong.predict_error = (grpc.StatusCode[code], "Servable not found for request: Latest(ranker)")
    with Callers(running.target, threads=4) as callers:
        callers.answered(300)
    assert not callers.errors
    assert callers.replicas.keys() == {"well"}
    assert wrong.requests()


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "OUT_OF_RANGE", "PERMISSION_DENIED", "UNIMPLEMENTED"])
def test_a_callers_mistake_is_asked_of_one_replica(fake_replica, gateway, code):
    replicas = [fake_replica(name=name) for name in "abc"]
    running = gateway(replicas)
    for replica in replicas:
        replica.predict_error = (grpc.StatusCode[code], "the input has the wrong shape")
    before = sum(len(replica.requests()) for replica in replicas)
    for _ in range(20):
        with pytest.raises(grpc.RpcError) as caught:
            call(running.target)
        assert caught.value.code() == grpc.StatusCode[code]
    assert sum(len(replica.requests()) for replica in replicas) - before == 20


def test_a_replica_without_the_model_gets_no_calls(fake_replica, gateway):
    lost, well = fake_replica(name="lost"), fake_replica(name="well")
    running = gateway([lost, well])
    lost.error = (grpc.StatusCode.NOT_FOUND, "Could not find any versions of model ranker")
    with Callers(running.target, threads=4) as callers:
        wait_until(lambda: running.healthy() == 1)
        count = len(lost.requests())
        callers.answered(200)
        assert len(lost.requests()) == count
        lost.error = None
        callers.answered(20, by="lost")
    assert not callers.errors


def test_a_rolling_restart_fails_no_call(replica_process, gateway):
    replicas = [replica_process(name) for name in "abc"]
    running = gateway(replicas)
    with Callers(running.target) as callers:
        for replica in replicas:
            callers.answered(50, by=replica.name)
            replica.kill(signal.SIGTERM)
            callers.answered(50)
            replica.start()
            callers.answered(50, by=replica.name)
            wait_until(lambda: running.healthy() == 3)
    assert not callers.errors


def test_after_all_were_dead_traffic_is_even_again(replica_process, gateway):
    replicas = [replica_process(name) for name in "abc"]
    running = gateway(replicas)
    with Callers(running.target, timeout=2.0) as callers:
        callers.answered(50)
        for replica in replicas:
            replica.kill()
        wait_until(lambda: running.healthy() == 0)
        for replica in replicas:
            replica.start()

        def is_even() -> bool:
            callers.forget()
            callers.answered(300)
            share = shares(callers)
            return share.keys() == set("abc") and all(0.2 < value < 0.5 for value in share.values())

        wait_until(is_even)
    assert not callers.errors


def test_3000_calls_at_once_are_queued_though_a_replica_dies(replica_process, gateway):
    replicas = [replica_process(name) for name in "abc"]
    running = gateway(replicas, "--hedge=0")
    with contextlib.ExitStack() as stack:
        # several connections: each carries 1,024 calls at once
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [stack.enter_context(grpc.insecure_channel(running.target, options)) for _ in range(3)]
        methods = [channel.unary_unary(wire.PREDICT.path) for channel in channels]
        calls = []
        for number in range(3000):
            calls.append(methods[number % 3].future(request_bytes(), timeout=200))
            if number == 2500:
                replicas[1].kill()
        assert Counter(answer.code().name for answer in calls) == {"OK": 3000}


def test_a_single_replica_is_never_ejected(fake_replica, gateway):
    replica = fake_replica(name="a")
    running = gateway([replica])
    replica.predict_error = (grpc.StatusCode.UNAVAILABLE, "queue is full")
    for _ in range(20):
        with pytest.raises(grpc.RpcError, match="queue is full"):
            call(running.target)
    replica.predict_error = None
    assert call(running.target)[1] == "a"
    assert running.healthy() == 1
