"""What callers see of a gateway: the replicas' own answers, their names, refusals."""

from __future__ import annotations

import urllib.error
from collections import Counter

import grpc
import pytest

from serving import wire
from serving.client import InvalidArgument, NotFound, RankerClient, Unavailable
from tests.serving.gateway.conftest import ITEMS, Callers, call, request_bytes


def test_answers_are_the_replicas_own_bytes(fake_replica, gateway):
    replica = fake_replica(name="a")
    running = gateway([replica])
    for path in (wire.PREDICT.path, wire.GET_MODEL_METADATA.path, wire.GET_MODEL_STATUS.path):
        body = request_bytes() if path == wire.PREDICT.path else b""
        direct, _ = call(replica.target, path, body)
        through, name = call(running.target, path, body)
        assert through == direct
        assert name == "a"
    sent = [request.SerializeToString() for request in replica.requests()]
    assert sent[0] == sent[1]
    assert b"new" in sent[1]


def test_the_client_works_unchanged(fake_replica, gateway):
    replica = fake_replica(name="a", version=5)
    running = gateway([replica])
    with RankerClient(running.target) as through, RankerClient(replica.target) as direct:
        assert (
            through.rank({"user_id": "1"}, {"item_id": ITEMS}).item_ids
            == direct.rank({"user_id": "1"}, {"item_id": ITEMS}).item_ids
        )
        assert through.predict({"item_id": ["1"]}).version == 5


@pytest.mark.parametrize(
    ("code", "error"),
    [("INVALID_ARGUMENT", InvalidArgument), ("NOT_FOUND", NotFound)],
)
def test_a_callers_mistake_comes_back_as_the_replica_words_it(fake_replica, gateway, code, error):
    replica = fake_replica(name="a")
    running = gateway([replica])
    replica.error = (grpc.StatusCode[code], "Ärger: 100% of it")
    with RankerClient(running.target, retries=0) as client, pytest.raises(error, match="Ärger: 100% of it"):
        client.predict({"item_id": ["1"]})


def test_metadata_reaches_the_replica_and_deadlines_hold(fake_replica, gateway):
    replica = fake_replica(name="a")
    running = gateway([replica])
    metadata = (("team", "x"), ("x-request-id", "r-7"), ("under_score", "y"), ("blob-bin", b"\x00\xff"))
    call(running.target, metadata=metadata)
    sent = dict(replica.metadata[-1])
    assert {key: sent[key] for key, _ in metadata} == dict(metadata)
    replica.delay = 3.0
    with pytest.raises(grpc.RpcError) as caught:
        call(running.target, timeout=0.3)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_calls_are_spread_over_the_replicas(fake_replica, gateway):
    replicas = [fake_replica(name=name) for name in "abc"]
    running = gateway(replicas, "--balance=round-robin")
    with Callers(running.target, threads=4) as callers:
        callers.answered(600)
    assert not callers.errors
    share = {name: count / sum(callers.replicas.values()) for name, count in callers.replicas.items()}
    assert share.keys() == set("abc")
    assert all(0.2 < value < 0.47 for value in share.values())


def test_a_sticky_key_leads_to_one_replica_and_moves_only_where_it_must(fake_replica, gateway):
    replicas = [fake_replica(name=name) for name in "abc"]
    running = gateway(replicas, "--sticky=x-user")

    def homes() -> dict[str, str]:
        return {user: call(running.target, metadata=(("x-user", user),))[1] for user in map(str, range(40))}

    before = homes()
    assert before == homes()
    assert set(Counter(before.values())) == set("abc")
    replicas[1].stop()
    after = homes()
    assert set(after.values()) == {"a", "c"}
    # Envoy's ring gets denser with fewer replicas, so that some of the others move as well: the ring depends on the
    # names alone, so it is the same on every machine.
    stay = [before[user] == after[user] for user in before if before[user] != "b"]
    assert sum(stay) / len(stay) > 0.7


def test_a_reload_is_refused(fake_replica, gateway):
    replica = fake_replica(name="a")
    running = gateway([replica])
    with pytest.raises(grpc.RpcError) as caught:
        call(running.target, wire.RELOAD_CONFIG.path, b"")
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "one replica of several" in caught.value.details()
    assert not replica.requests("HandleReloadConfigRequest")


def test_a_large_message_passes_both_ways(fake_replica, gateway):
    replica = fake_replica(name="a")
    running = gateway([replica])
    items = [f"{number:0200d}" for number in range(100_000)]
    with RankerClient(running.target, deadline=60.0) as client:
        assert len(client.predict({"item_id": items}).scores) == len(items)


def test_without_a_replica_calls_are_unavailable(fake_replica, gateway):
    replica = fake_replica(name="a")
    replica.stop()
    running = gateway([replica], reachable=0)
    with RankerClient(running.target, retries=0) as client, pytest.raises(Unavailable):
        client.predict({"item_id": ["1"]})


def test_the_metrics_port_has_prometheus_statistics_and_no_other_page(fake_replica, gateway):
    running = gateway([fake_replica(name="a")])
    call(running.target)
    assert running.metric("envoy_cluster_upstream_rq_total", envoy_cluster_name="replicas") >= 1
    assert running.metric("envoy_cluster_grpc_PredictionService_Predict_success") == 1
    assert running.scrape("/healthz") == ""
    for path in (
        "/",
        "/stats",
        "/config_dump",
        "/quitquitquit",
        "/metrics/../config_dump",
        "/metrics%2f..%2fcerts",
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            running.scrape(path)
        assert caught.value.code == 404
        caught.value.close()
