"""Live traffic as comparisons: what is recorded, what is sampled, and what a bad replica can't touch."""

from __future__ import annotations

import os
import signal
import time

import grpc
import numpy as np
import pytest

from serving import wire
from serving.client import RankerClient
from serving.gateway.routing import Router
from serving.gateway.sampling import is_sampled

ITEMS = [str(item) for item in range(20)]


def score(item: str) -> float:
    return (sum(item.encode()) * 37 % 9) / 8


def predict(target: str, identifier: str | None = None, items=ITEMS, signature="", timeout=5.0):
    request = wire.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "ranker", signature
    request.inputs["item_id"].CopyFrom(wire.to_tensor(items))
    metadata = (("x-request-id", identifier),) if identifier else ()
    with grpc.insecure_channel(target) as channel:
        method = channel.unary_unary(
            wire.PREDICT.path,
            request_serializer=wire.PredictRequest.SerializeToString,
            response_deserializer=wire.PredictResponse.FromString,
        )
        return method(request, metadata=metadata, timeout=timeout)


@pytest.mark.parametrize("signature", ["serving_default", "rank"])
def test_every_replicas_scores_stand_in_the_callers_order(fake_replica, gateway, signature):
    replicas = [fake_replica(name=name, version=version) for name, version in (("a", 1), ("b", 2), ("c", 3))]

    def doubled(response):
        scores = 2 * wire.to_array(response.outputs["score"])
        response.outputs["score"].CopyFrom(wire.to_tensor(scores))
        return response

    replicas[1].mangle = doubled
    running = gateway(replicas, mirror={"rate": 1.0})
    before = time.time()
    items = ["3", "1", "2", "1"]
    predict(running.target, "first", items, signature)
    (record,) = running.mirrored(1)
    assert (record.request_id, record.signature, record.item_ids) == ("first", signature, tuple(items))
    assert before - 1 < record.time < time.time() + 1
    assert [answer.chosen for answer in record.answers] == [True, False, False]
    answers = {answer.replica: answer for answer in record.answers}
    expected = np.array([score(item) for item in items], np.float32)
    for name, version, factor in (("a", 1, 1), ("b", 2, 2), ("c", 3, 1)):
        np.testing.assert_array_equal(answers[name].scores, factor * expected)
        assert (answers[name].version, answers[name].batch_size, answers[name].error) == (version, 4, "")
        assert 0 < answers[name].latency < 5


def test_the_sample_is_the_hash_of_the_id(fake_replica, gateway):
    running = gateway([fake_replica(name=name) for name in "ab"], mirror={"rate": 0.3})
    identifiers = [f"request-{number}" for number in range(40)]
    for identifier in identifiers:
        predict(running.target, identifier)
    expected = {identifier for identifier in identifiers if is_sampled(identifier, 0.3)}
    assert 4 < len(expected) < 20
    records = running.mirrored(len(expected))
    assert {record.request_id for record in records} == expected


def test_without_an_id_the_same_request_has_the_same(fake_replica, gateway):
    running = gateway([fake_replica(name=name) for name in "ab"], mirror={"rate": 1.0})
    for items in (ITEMS, ITEMS, ITEMS[:3]):
        predict(running.target, items=items)
    first, second, third = (record.request_id for record in running.mirrored(3))
    assert first == second != third


def test_the_order_of_mirrored_replicas_differs_between_requests(fake_replica, gateway):
    running = gateway([fake_replica(name=name) for name in "abcd"], sticky="x-none", mirror={"rate": 1.0})
    for number in range(24):
        predict(running.target, f"request-{number}")
    orders = {tuple(answer.replica for answer in record.answers) for record in running.mirrored(24)}
    assert len(orders) > 8


def test_what_ranks_nothing_is_counted_and_not_mirrored(fake_replica, gateway):
    replicas = [fake_replica(name=name) for name in "ab"]
    running = gateway(replicas, mirror={"rate": 1.0})
    with RankerClient(running.target) as client:
        client.describe()
        client.status()
    predict(running.target, "last")
    (record,) = running.mirrored(1)
    assert record.request_id == "last"
    assert running.metric("ranker_gateway_mirror_skipped_total") == 1


def _wrong_count(response):
    response.outputs["score"].CopyFrom(wire.to_tensor(np.zeros((3, 1), np.float32)))
    return response


def _wrong_items(response):
    response.outputs["item_id"].CopyFrom(wire.to_tensor(["x"] * len(ITEMS)))
    return response


@pytest.mark.parametrize(
    ("signature", "mangle"),
    [("serving_default", _wrong_count), ("rank", _wrong_count), ("rank", _wrong_items)],
)
def test_a_wrong_replica_is_recorded_as_malformed_and_the_caller_unharmed(
    fake_replica, gateway, signature, mangle
):
    good, wrong = fake_replica(name="good"), fake_replica(name="wrong", mangle=mangle)
    running = gateway([good, wrong], mirror={"rate": 1.0})
    predict(running.target, "one", signature=signature)
    (record,) = running.mirrored(1)
    assert [(answer.replica, answer.error) for answer in record.answers] == [
        ("good", ""),
        ("wrong", "MALFORMED"),
    ]
    assert running.metric("ranker_gateway_mirror_answers_total", replica="wrong", code="MALFORMED") == 1


def test_dead_and_slow_replicas_never_touch_the_callers_time(fake_replica, gateway):
    good, slow, dead = (fake_replica(name=name) for name in ("good", "slow", "dead"))
    dead.stop()
    running = gateway([good, slow, dead], reachable=2, slow=0.2, mirror={"rate": 1.0, "deadline": 0.3})
    slow.delay = 2.0
    durations, failures = [], 0
    for number in range(40):
        started = time.monotonic()
        try:
            predict(running.target, f"request-{number}", timeout=0.5)
        except grpc.RpcError:
            failures += 1
        durations.append(time.monotonic() - started)
    # The slow one may hold up callers until five in a row have said so, and one trial a pause after that.
    assert failures <= 8
    assert sorted(durations)[30] < 0.3
    records = running.mirrored(40 - failures)
    errors = {answer.error for record in records for answer in record.answers if answer.replica == "dead"}
    assert errors <= {"UNAVAILABLE", "BREAKER_OPEN"}
    errors = [answer.error for record in records for answer in record.answers if answer.replica == "slow"]
    assert errors.count("DEADLINE_EXCEEDED") >= 1
    assert errors.count("BREAKER_OPEN") > len(errors) / 2
    assert all(answer.error == "" for record in records for answer in record.answers if answer.chosen)


def test_a_full_queue_drops_and_counts(fake_replica, gateway):
    good, slow = fake_replica(name="good"), fake_replica(name="slow", delay=0.4)
    running = gateway(
        [good, slow], sticky="x-key", mirror={"rate": 1.0, "queue": 2, "workers": 1, "deadline": 5.0}
    )
    request = wire.PredictRequest()
    request.model_spec.name = "ranker"
    request.inputs["item_id"].CopyFrom(wire.to_tensor(ITEMS))
    with grpc.insecure_channel(running.target) as channel:
        method = channel.unary_unary(wire.PREDICT.path)
        key = next(
            f"k{n}"
            for n in range(99)
            if Router(("good", "slow")).order(f"k{n}", {"good", "slow"})[0] == "good"
        )
        for _ in range(12):
            method(request.SerializeToString(), metadata=(("x-key", key),), timeout=5)
    running.wait_until(lambda: running.metric("ranker_gateway_mirror_dropped_total", reason="queue") > 0)
    running.stop()
    dropped = running.metric("ranker_gateway_mirror_dropped_total", reason="queue")
    compared = running.metric("ranker_gateway_mirror_compared_total")
    assert dropped + compared == 12
    assert compared >= 2


def test_a_killed_mirror_process_is_started_again_and_callers_see_nothing(fake_replica, gateway):
    running = gateway([fake_replica(name=name) for name in "ab"], mirror={"rate": 1.0})
    predict(running.target, "before")
    running.wait_until(lambda: running.metric("ranker_gateway_mirror_compared_total") >= 1)
    os.kill(running.gateway._mirror._process.pid, signal.SIGKILL)
    running.wait_until(lambda: running.metric("ranker_gateway_mirror_restarted_total") == 1)
    for number in range(5):
        predict(running.target, f"between-{number}")
    running.wait_until(lambda: running.gateway._mirror._process.returncode is None)
    predict(running.target, "after")
    records = running.mirrored(2)
    assert {"before", "after"} <= {record.request_id for record in records}


def test_stopping_finishes_what_was_sampled(fake_replica, gateway):
    running = gateway([fake_replica(name=name) for name in "ab"], mirror={"rate": 1.0})
    for number in range(10):
        predict(running.target, f"request-{number}")
    running.stop()
    assert running.metric("ranker_gateway_mirror_compared_total") == 10
