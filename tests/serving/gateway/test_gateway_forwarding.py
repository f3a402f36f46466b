"""The caller's side: answers are the replica's own bytes; who answers; what happens when one does not."""

from __future__ import annotations

from collections import Counter

import grpc
import pytest

from serving import wire
from serving.client import InvalidArgument, NotFound, RankerClient, Unavailable
from serving.gateway.probe import is_serving

ITEMS = [str(item) for item in range(20)]


def request_bytes(items=ITEMS) -> bytes:
    request = wire.PredictRequest()
    request.model_spec.name = "ranker"
    request.inputs["item_id"].CopyFrom(wire.to_tensor(items))
    # A field of a newer TF Serving, which this proxy does not know.
    return request.SerializeToString() + b"\x32\x03new"


def raw_call(target: str, path: str, body: bytes, metadata=(), timeout=5.0):
    """Calls with bytes and returns (bytes, trailing metadata)."""
    with grpc.insecure_channel(target) as channel:
        answer, call = channel.unary_unary(path).with_call(body, metadata=metadata, timeout=timeout)
        return answer, dict(call.trailing_metadata())


def who(target: str, key: str | None = None) -> str:
    metadata = (("x-user", key),) if key else ()
    return raw_call(target, wire.PREDICT.path, request_bytes(), metadata)[1]["x-ranker-replica"]


def test_answers_are_the_replicas_own_bytes(fake_replica, gateway):
    replica = fake_replica(name="a")
    running = gateway([replica])
    for path in (wire.PREDICT.path, wire.GET_MODEL_METADATA.path, wire.GET_MODEL_STATUS.path):
        body = request_bytes() if path == wire.PREDICT.path else b""
        direct, _ = raw_call(replica.target, path, body)
        through, trailers = raw_call(running.target, path, body)
        assert through == direct
        assert trailers["x-ranker-replica"] == "a"
    sent = [request.SerializeToString() for request in replica.requests()]
    assert sent[0] == sent[1]
    assert b"new" in sent[1]


def test_the_client_works_unchanged(fake_replica, gateway):
    replica = fake_replica(name="a", version=5)
    running = gateway([replica])
    with RankerClient(running.target) as through, RankerClient(replica.target) as direct:
        assert through.rank({"user_id": "1"}, {"item_id": ITEMS}).item_ids == (
            direct.rank({"user_id": "1"}, {"item_id": ITEMS}).item_ids
        )
        assert through.describe() == direct.describe()
        assert through.status() == direct.status()


def test_calls_go_in_turn(fake_replica, gateway):
    running = gateway([fake_replica(name=name) for name in "abc"])
    assert Counter(who(running.target) for _ in range(12)) == {"a": 4, "b": 4, "c": 4}


def test_a_key_leads_to_the_same_replica_also_after_a_restart(fake_replica, gateway):
    replicas = [fake_replica(name=name) for name in "abc"]
    first, second = gateway(replicas, sticky="x-user"), gateway(replicas, sticky="x-user")
    keys = [f"user-{number}" for number in range(12)]
    routes = [who(first.target, key) for key in keys]
    assert [who(second.target, key) for key in keys] == routes
    assert [who(first.target, key) for key in keys] == routes
    assert len(set(routes)) > 1


def test_status_text_and_metadata_pass_through(fake_replica, gateway):
    replica = fake_replica(name="a")
    running = gateway([replica])
    text = "input size does not match signature: 2!=1 len({x,z}) ü"
    replica.error = (grpc.StatusCode.INVALID_ARGUMENT, text)
    with RankerClient(running.target) as client, pytest.raises(InvalidArgument) as caught:
        client.status()
    assert caught.value.details == text
    replica.error = None
    given = (("x-request-id", "r1"), ("x-trace", "t"), ("x-trace", "u"), ("x-raw-bin", b"\x00\xff"))
    raw_call(running.target, wire.PREDICT.path, request_bytes(), given)
    assert tuple(pair for pair in replica.metadata[-1] if pair[0].startswith("x-")) == given
    with RankerClient(running.target, model_name="other") as client, pytest.raises(NotFound):
        client.describe()


def test_unavailable_goes_to_the_next_replica(fake_replica, gateway):
    full, well = fake_replica(name="full"), fake_replica(name="well")
    running = gateway([full, well])
    full.error = (grpc.StatusCode.UNAVAILABLE, "queue full")
    assert {who(running.target) for _ in range(4)} == {"well"}
    assert running.metric("ranker_gateway_unavailable_total", replica="full") == len(full.calls) > 0


def test_all_unavailable_is_said_with_the_last_replicas_text(fake_replica, gateway):
    replicas = [fake_replica(name=name) for name in "ab"]
    running = gateway(replicas)
    for replica in replicas:
        replica.error = (grpc.StatusCode.UNAVAILABLE, "queue full")
    with RankerClient(running.target, retries=0) as client, pytest.raises(Unavailable, match="queue full"):
        client.status()
    assert [len(replica.calls) for replica in replicas] == [1, 1]


def test_the_callers_deadline_reaches_the_replica_and_ends_the_call(fake_replica, gateway):
    replica = fake_replica(name="a", delay=1.0)
    running = gateway([replica])
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(running.target, wire.PREDICT.path, request_bytes(), timeout=0.2)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    "path", [wire.RELOAD_CONFIG.path, "/tensorflow.serving.SessionService/SessionRun", "/any.Other/Method"]
)
def test_what_would_change_one_replica_of_several_is_not_forwarded(fake_replica, gateway, path):
    replica = fake_replica(name="a")
    running = gateway([replica])
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(running.target, path, b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert not replica.calls


def test_health_follows_the_replicas(fake_replica, gateway):
    replica = fake_replica(name="a")
    running = gateway([replica])
    check = "/grpc.health.v1.Health/Check"
    assert raw_call(running.target, check, b"")[0] == b"\x08\x01"
    assert is_serving(running.target)
    replica.stop()
    running.wait_until(lambda: not running.healthy())
    assert raw_call(running.target, check, b"")[0] == b"\x08\x02"
    assert not is_serving(running.target)
    assert not is_serving("127.0.0.1:1", seconds=1.0)


def test_metrics_are_served(fake_replica, gateway):
    running = gateway([fake_replica(name="a")])
    who(running.target)
    page = running.scrape()
    assert 'ranker_gateway_requests_total{code="OK",method="Predict",replica="a"} 1.0' in page
    assert 'ranker_gateway_replica_healthy{replica="a"} 1.0' in page
    assert 'ranker_gateway_mirror_dropped_total{reason="queue"} 0.0' in page
