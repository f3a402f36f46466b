"""A slow, failing or wrong replica: callers get another one's answer, and soon it is no longer asked."""

from __future__ import annotations

import time
from collections import Counter

import grpc
import numpy as np
import pytest

from serving import wire
from serving.gateway.pace import Budget, Pace
from tests.serving.gateway.test_gateway_forwarding import ITEMS, raw_call, request_bytes, who

HANG = 5.0


def passed_over(running, name, reason):
    return running.metric("ranker_gateway_passed_over_total", replica=name, reason=reason)


def test_a_slow_replica_is_overtaken_left_alone_and_taken_back(fake_replica, gateway):
    slow, well = fake_replica(name="slow"), fake_replica(name="well")
    running = gateway([slow, well])
    for _ in range(20):
        who(running.target)
    slow.delay = HANG
    started = time.monotonic()
    assert Counter(who(running.target) for _ in range(20)) == {"well": 20}
    assert time.monotonic() - started < HANG  # nobody waited for it, not even once
    assert passed_over(running, "slow", "late") == 5
    assert running.healthy() == {"well"}
    asked = len(slow.calls)
    slow.delay = 0.0

    def taken_back():
        who(running.target)
        return running.healthy() == {"slow", "well"}

    running.wait_until(taken_back)
    assert len(slow.calls) > asked
    assert {who(running.target) for _ in range(4)} == {"slow", "well"}


def test_a_slow_replica_is_tried_with_copies_only(fake_replica, gateway):
    slow, well = fake_replica(name="slow"), fake_replica(name="well")
    running = gateway([slow, well], slow=0.3)
    slow.delay = HANG
    for _ in range(20):
        who(running.target)
    asked, limit = len(slow.calls), time.monotonic() + 20
    while len(slow.calls) == asked:  # the trial
        assert who(running.target) == "well"
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert running.healthy() == {"well"}


def mangled(change):
    def mangle(response):
        if "score" in response.outputs:
            change(response)
        return response

    return mangle


def fewer(response):
    response.outputs["score"].CopyFrom(wire.to_tensor(np.zeros((len(ITEMS) - 1, 1), np.float32)))


def not_a_number(response):
    response.outputs["score"].CopyFrom(wire.to_tensor(np.full((len(ITEMS), 1), np.nan, np.float32)))


def without_score(response):
    del response.outputs["score"]


@pytest.mark.parametrize("change", [fewer, not_a_number, without_score])
def test_an_answer_that_cannot_be_one_is_made_up_for(fake_replica, gateway, change):
    wrong, well = fake_replica(name="wrong"), fake_replica(name="well")
    running = gateway([wrong, well])
    wrong.mangle = mangled(change)
    assert {who(running.target) for _ in range(20)} == {"well"}
    assert passed_over(running, "wrong", "error") == 5
    assert running.healthy() == {"well"}


@pytest.mark.parametrize("code", ["NOT_FOUND", "INTERNAL", "FAILED_PRECONDITION", "INVALID_ARGUMENT"])
def test_an_error_of_one_replica_alone_is_made_up_for(fake_replica, gateway, code):
    wrong, well = fake_replica(name="wrong"), fake_replica(name="well")
    running = gateway([wrong, well])
    wrong.error = (grpc.StatusCode[code], "Servable not found for request: Latest(ranker)")
    assert {who(running.target) for _ in range(20)} == {"well"}
    assert running.healthy() == {"well"}


def test_a_complaint_two_replicas_agree_on_is_the_callers(fake_replica, gateway):
    replicas = [fake_replica(name=name) for name in "abc"]
    running = gateway(replicas)
    for replica in replicas:
        replica.error = (grpc.StatusCode.INVALID_ARGUMENT, f"by {replica.name}")
    for _ in range(12):
        with pytest.raises(grpc.RpcError) as caught:
            raw_call(running.target, wire.PREDICT.path, request_bytes())
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details().startswith("by ")
    assert sum(len(replica.calls) for replica in replicas) == 24
    assert running.healthy() == {"a", "b", "c"}


def test_an_odd_answer_two_replicas_agree_on_is_passed_on_as_it_is(fake_replica, gateway):
    replicas = [fake_replica(name=name, mangle=mangled(without_score)) for name in "ab"]
    running = gateway(replicas)
    answer, _ = raw_call(running.target, wire.PREDICT.path, request_bytes())
    assert answer == raw_call(replicas[0].target, wire.PREDICT.path, request_bytes())[0]
    assert running.healthy() == {"a", "b"}


def test_late_is_the_usual_time_and_four_deviations():
    pace = Pace(shortest=0.01, longest=1.0)
    for _ in range(9):
        assert pace.late_after == 1.0
        pace.observe(0.05)
    for _ in range(200):
        pace.observe(0.05)
    assert pace.late_after == pytest.approx(0.05, rel=1e-3)
    for _ in range(200):
        pace.observe(0.001)
    assert pace.late_after == 0.01
    for _ in range(200):
        pace.observe(7.0)
    assert pace.late_after == 1.0


def test_at_most_a_tenth_of_the_calls_is_asked_twice():
    budget, spent = Budget(), 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend()
    assert 100 <= spent <= 120
