"""What values become on the wire, what is refused before sending, and what never reaches a caller."""

from __future__ import annotations

import datetime
import json
import math

import numpy as np
import pytest

from ranker.errors import UserError
from serving import wire
from serving.client import ClientClosed, MalformedAnswer, RankerClient, ServingError, Unavailable
from serving.client.connection import proxy_of

CANDIDATES = {"item_id": ["1", "2", "3"]}


def sent(replica, name):
    return wire.to_array(replica.requests()[-1].inputs[name]).tolist()


@pytest.mark.parametrize("signatures", [("serving_default", "rank", "describe"), ("serving_default",)])
def test_rank_fills_what_is_not_given_as_missing(fake_replica, signatures):
    replica = fake_replica(signatures=signatures)
    with RankerClient(replica.target) as client:
        client.rank({"user_id": "7"}, CANDIDATES)
        assert set(map(str, sent(replica, "age"))) == {"nan"}
        client.rank({}, CANDIDATES)
    assert set(sent(replica, "user_id")) == {b""}


def test_the_items_feature_is_what_the_model_says(fake_replica):
    replica = fake_replica(described={"item": "user_id"})
    with RankerClient(replica.target) as client:
        assert client.item() == "user_id"
        with pytest.raises(UserError, match="item's column `user_id`"):
            client.rank({}, CANDIDATES)
    with RankerClient(replica.target, item="item_id") as client:
        assert client.rank({}, CANDIDATES).item_ids


def test_lists_go_into_multivalued_features_only(fake_replica):
    replica = fake_replica(described={"multivalued": {"user_id": "|"}})
    with RankerClient(replica.target) as client:
        client.rank({"user_id": ["a", 7.0]}, CANDIDATES)
        assert sent(replica, "user_id") == [b"a|7"]
        client.rank({"user_id": [["a", "b"]]}, CANDIDATES)
        assert sent(replica, "user_id") == [b"a|b"]
        client.predict({"user_id": [["a", None], "c|d"], "item_id": [1, 2]})
        assert sent(replica, "user_id") == [b"a", b"c|d"]
        with pytest.raises(UserError, match="`user_id`: an item of a list must not hold the separator"):
            client.rank({"user_id": ["a|b", "c"]}, CANDIDATES)
        with pytest.raises(UserError, match="`item_id` must be one value"):
            client.predict({"item_id": [["1", "2"]]})


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (None, math.nan),
        ("", math.nan),
        (" 7.5 ", 7.5),
        (True, 1),
        (datetime.datetime(1970, 1, 2), 86400),
        (np.datetime64("1970-01-02"), 86400),
        (np.datetime64("NaT"), math.nan),
    ],
)
def test_numbers_are_what_prepared_data_have(fake_replica, value, number):
    replica = fake_replica()
    with RankerClient(replica.target) as client:
        client.rank({"age": value}, CANDIDATES)
    np.testing.assert_array_equal(sent(replica, "age"), [number])


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e39, np.float32("inf"), "inf", "1e39"])
def test_numbers_that_are_not_finite_are_refused(fake_replica, value):
    replica = fake_replica()
    with RankerClient(replica.target) as client:
        for call in (
            lambda: client.rank({"age": value}, CANDIDATES),
            lambda: client.predict({"age": np.array([value]), "item_id": ["1"]}),
        ):
            with pytest.raises(UserError, match=r"`age` must hold finite numbers.*Received: "):
                call()


def _spoil(value):
    def mangle(response):
        if isinstance(response, wire.PredictResponse) and "score" in response.outputs:
            scores = wire.to_array(response.outputs["score"]).copy()
            scores.ravel()[1] = value
            response.outputs["score"].Clear()
            wire.write_tensor(scores, response.outputs["score"])
        return response

    return mangle


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("signatures", [("serving_default", "rank"), ("serving_default",)])
def test_a_ranking_never_holds_a_score_that_is_not_finite(fake_replica, value, signatures):
    replica = fake_replica(mangle=_spoil(value), signatures=signatures)
    with RankerClient(replica.target) as client:
        with pytest.raises(MalformedAnswer, match=r"1 of 3 scores are not finite: .* for item "):
            client.rank({}, CANDIDATES)
        assert not np.isfinite(client.predict(CANDIDATES).scores[1])


def _other_items(response):
    if isinstance(response, wire.PredictResponse) and "item_id" in response.outputs:
        response.outputs["item_id"].string_val[0] = b"another"
    return response


def _text_scores(response):
    if isinstance(response, wire.PredictResponse) and "score" in response.outputs:
        response.outputs["score"].CopyFrom(wire.to_tensor(["a", "b", "c"]))
    return response


def _describes(value):
    def mangle(response):
        if isinstance(response, wire.PredictResponse) and "description" in response.outputs:
            response.outputs["description"].CopyFrom(wire.to_tensor(value))
        return response

    return mangle


def _broken_metadata(response):
    if isinstance(response, wire.GetModelMetadataResponse):
        response.metadata["signature_def"].value = b"\xff\xff"
    return response


@pytest.mark.parametrize(
    "mangle",
    [
        _other_items,
        _text_scores,
        _broken_metadata,
        _describes(np.array([], object)),
        _describes(["["] * 1),
        _describes("[" * 100_000),
        _describes("7"),
        _describes([b"\xff"]),
    ],
)
def test_answers_of_no_ranking_model_are_the_clients_own_error(fake_replica, mangle):
    with RankerClient(fake_replica(mangle=mangle).target) as client, pytest.raises(MalformedAnswer):
        client.rank({}, CANDIDATES)


class _Odd:
    def __array__(self, dtype=None, copy=None):
        return np.array([{}], object)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.rank(["7"], CANDIDATES),
        lambda client: client.rank(None, CANDIDATES),
        lambda client: client.rank({}, ["1"]),
        lambda client: client.rank({7: "1"}, CANDIDATES),
        lambda client: client.rank({}, CANDIDATES, k="2"),
        lambda client: client.rank({}, CANDIDATES, k=1.5),
        lambda client: client.rank({"item_id": "1"}, CANDIDATES),
        lambda client: client.rank({"nobody": "1"}, CANDIDATES),
        lambda client: client.rank({"\ud800": "1"}, CANDIDATES),
        lambda client: client.rank({"user_id": {}}, CANDIDATES),
        lambda client: client.rank({"age": 1j}, CANDIDATES),
        lambda client: client.rank({"age": [[1, 2]]}, CANDIDATES),
        lambda client: client.rank({}, {"item_id": iter("12")}),
        lambda client: client.rank({}, {"item_id": _Odd()}),
        lambda client: client.predict(None),
        lambda client: client.predict([["1"]]),
        lambda client: client.predict(CANDIDATES, version="3"),
        lambda client: client.predict(CANDIDATES, version=2**70),
        lambda client: client.predict(CANDIDATES, label=7),
    ],
)
def test_arguments_of_any_kind_are_a_user_error(fake_replica, call):
    replica = fake_replica()
    with RankerClient(replica.target) as client, pytest.raises(UserError) as caught:
        call(client)
    assert not isinstance(caught.value, ServingError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"target": None},
        {"target": "unix:"},
        {"deadline": "5"},
        {"deadline": math.nan},
        {"retries": "2"},
        {"retries": 1.5},
    ],
)
def test_options_of_any_kind_are_a_user_error(options):
    with pytest.raises(UserError, match="Received"):
        RankerClient(**{"target": "127.0.0.1:1"} | options)


def test_a_closed_client_says_so(fake_replica):
    client = RankerClient(fake_replica().target)
    client.close()
    with pytest.raises(ClientClosed, match="the client is closed"):
        client.status()


def test_a_long_deadline_is_one(fake_replica):
    with RankerClient(fake_replica().target, deadline=1e300) as client:
        assert client.status()


VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")


@pytest.mark.parametrize("variable", VARIABLES)
def test_this_machine_is_never_asked_through_a_proxy(fake_replica, monkeypatch, variable):
    monkeypatch.setenv(variable, "http://user:secret@127.0.0.1:1")
    replica = fake_replica()
    for target in (replica.target, f"localhost:{replica.port}", f"ipv4:127.0.0.1:{replica.port}"):
        with RankerClient(target, retries=0) as client:
            assert client.status()


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_proxy_that_failed_is_named(monkeypatch, variable):
    monkeypatch.setenv(variable, "http://user:secret@127.0.0.1:1")
    named = rf"through the proxy http://127\.0\.0\.1:1 of {variable}"
    with (
        RankerClient("ranker.invalid:8500", retries=0, deadline=20) as client,
        pytest.raises(Unavailable, match=named) as caught,
    ):
        client.status()
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("no_proxy", "other.example, .invalid")
    assert proxy_of("ranker.invalid:8500") is None
    assert proxy_of("dns:///ranker.valid:8500") is not None
    assert proxy_of("unix:/tmp/socket") is None
    assert proxy_of("[::1]:8500") is None


def test_a_description_round_trips(fake_replica):
    replica = fake_replica(described={"multivalued": {"genres": ", "}})
    with RankerClient(replica.target) as client:
        assert json.dumps(client.describe()["multivalued"]) == '{"genres": ", "}'
