"""The client against a fake TF Serving: answers, fallbacks, conversions."""

from __future__ import annotations

import numpy as np
import pytest

from ranker.errors import UserError
from serving.client import MalformedAnswer, RankerClient


def score(item: str) -> float:
    return (sum(item.encode()) * 37 % 9) / 8


ITEMS = [str(item) for item in range(40)]


def by_score(items):
    return tuple(sorted(items, key=lambda item: (-score(item), item.encode())))


@pytest.mark.parametrize("typed_fields", [True, False])
def test_predict_gives_scores_in_row_order(fake_replica, typed_fields):
    replica = fake_replica(version=12, typed_fields=typed_fields)
    with RankerClient(replica.target) as client:
        prediction = client.predict({"user_id": ["7"] * 40, "item_id": ITEMS})
    np.testing.assert_array_equal(prediction.scores, np.array([score(item) for item in ITEMS], np.float32))
    assert prediction.scores.dtype == np.float32
    assert prediction.version == 12
    assert 0 < prediction.latency < 5


def test_rank_uses_the_rank_signature_with_one_row_of_context(fake_replica):
    replica = fake_replica()
    with RankerClient(replica.target) as client:
        ranking = client.rank({"user_id": "7", "age": 30}, {"item_id": ITEMS}, k=5)
    assert ranking.item_ids == by_score(ITEMS)[:5]
    np.testing.assert_array_equal(
        ranking.scores, np.array([score(item) for item in ranking.item_ids], np.float32)
    )
    request = replica.requests()[-1]
    assert request.model_spec.signature_name == "rank"
    assert [dim.size for dim in request.inputs["user_id"].tensor_shape.dim] == [1]


@pytest.mark.parametrize("obstacle", [{"batching": True}, {"signatures": ("serving_default", "describe")}])
def test_rank_falls_back_to_serving_default_and_remembers(fake_replica, obstacle):
    replica, plain = fake_replica(**obstacle), fake_replica()
    context, candidates = {"user_id": 7, "age": [30]}, {"item_id": ITEMS}
    with RankerClient(replica.target) as client, RankerClient(plain.target) as other:
        first, second = client.rank(context, candidates), client.rank(context, candidates)
        assert (
            first.item_ids == second.item_ids == other.rank(context, candidates).item_ids == by_score(ITEMS)
        )
    used = [request.model_spec.signature_name for request in replica.requests()]
    assert used.count("rank") <= 1
    assert (
        used[-2:] == (["rank", "serving_default"] if "batching" in obstacle else ["serving_default"] * 2)
        or used[-1] == "serving_default"
    )
    assert [dim.size for dim in replica.requests()[-1].inputs["age"].tensor_shape.dim] == [40]


def test_rank_falls_back_when_metadata_is_not_offered(fake_replica):
    replica = fake_replica(signatures=("serving_default",))
    replica.getmodelmetadata = lambda request, context: context.abort(
        __import__("grpc").StatusCode.UNIMPLEMENTED, "no"
    )
    with RankerClient(replica.target) as client:
        assert client.rank({"user_id": "7"}, {"item_id": ITEMS}).item_ids == by_score(ITEMS)


def test_the_signature_decides_types_and_is_asked_once(fake_replica):
    replica = fake_replica()
    with RankerClient(replica.target) as client:
        client.predict({"user_id": [7, 7.0, None], "item_id": np.array([1, 2, 3]), "age": [1, None, 2]})
        client.predict({"user_id": ["7"], "item_id": ["1"]})
    assert len(replica.requests("GetModelMetadata")) == 1
    sent = replica.requests()[0].inputs
    assert list(sent["user_id"].string_val) == [b"7", b"7", b""]
    assert list(sent["item_id"].string_val) == [b"1", b"2", b"3"]
    np.testing.assert_array_equal(np.frombuffer(sent["age"].tensor_content, "<f4"), [1, np.nan, 2])


def test_versions_and_labels_are_asked_for(fake_replica):
    replica = fake_replica()
    rows = {"item_id": ["1"]}
    with RankerClient(replica.target) as client:
        client.predict(rows, version=2)
        client.predict(rows, label="stable")
        with pytest.raises(UserError, match="a version or a label, not both"):
            client.predict(rows, version=2, label="stable")
    first, second = (request.model_spec for request in replica.requests())
    assert first.version.value == 2
    assert second.version_label == "stable"


def test_describe_metadata_and_status(fake_replica):
    replica = fake_replica(name="smelu-1", version=9)
    with RankerClient(replica.target) as client:
        described = client.describe()
        assert (described["replica"], described["served_version"]) == ("smelu-1", 9)
        signature = client.metadata()["serving_default"]
        assert signature.inputs["age"].dtype == "DT_FLOAT"
        assert signature.inputs["age"].shape == (-1,)
        assert [(entry.version, entry.state) for entry in client.status()] == [(9, "AVAILABLE"), (8, "END")]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda client: client.predict({}), "at least one column"),
        (lambda client: client.predict({"item_id": "12"}), "`item_id` must be a sequence"),
        (lambda client: client.predict({"item_id": ["1"], "age": [1, 2]}), "same length"),
        (lambda client: client.predict({"item_id": ["1"], "age": ["old"]}), "`age` must hold numbers"),
        (lambda client: client.rank({"age": [1, 2]}, {"item_id": ["1"]}), "`age` must have one value"),
        (lambda client: client.rank({"age": 1}, {"movie": ["1"]}), "item's column `item_id`"),
        (lambda client: client.rank({"age": 1}, {"item_id": ["1"]}, k=0), "k=0"),
    ],
)
def test_arguments_that_cannot_be_sent(fake_replica, call, message):
    replica = fake_replica()
    with RankerClient(replica.target) as client, pytest.raises(UserError, match=message):
        call(client)
    assert all(request.model_spec.signature_name == "describe" for request in replica.requests())


def _drop_output(response):
    del response.outputs["score"]
    return response


def _cut_content(response):
    for tensor in response.outputs.values():
        tensor.tensor_content = b"123"
    return response


def _too_few(response):
    for tensor in response.outputs.values():
        tensor.tensor_shape.dim[0].size = 1
    return response


@pytest.mark.parametrize("mangle", [_drop_output, _cut_content, _too_few])
def test_an_answer_that_is_no_ranking_models(fake_replica, mangle):
    replica = fake_replica()
    with RankerClient(replica.target) as client:
        client.metadata()
        client.predict({"item_id": ["1", "2"]})
        replica.mangle = mangle
        with pytest.raises(MalformedAnswer, match=replica.target):
            client.predict({"item_id": ["1", "2"]})
