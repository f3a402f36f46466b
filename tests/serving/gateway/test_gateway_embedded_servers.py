"""Client, gateway and embedded servers together, and TF Serving's own Python client through the gateway."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ranker.backend import tf
from serving.client import FailedPrecondition, InvalidArgument, NotFound, RankerClient
from serving.deployment import from_targets
from serving.gateway import GatewayOptions, MirrorOptions
from serving.server.api import ServerOptions, start
from serving.spool import finished, read
from tests.serving.gateway.conftest import Running
from tests.serving.server.saved_models import save_ranker

ROWS = {"item_id": ["c", "a", "b", "?"], "age": [0.5, 0.5, 0.5, 0.5]}
SCORES = np.array([3.5, 1.5, 2.5, 0.5], np.float32)


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Two embedded servers of one model, the second's scores a half higher."""
    started = []
    for name, bias in (("low", 0.0), ("high", 0.5)):
        base = tmp_path_factory.mktemp(name)
        save_ranker(base / "7", bias)
        started.append(start(ServerOptions(port=0, model_name="ranker", model_base_path=str(base))))
    yield [f"127.0.0.1:{server.port}" for server in started]
    for server in started:
        server.stop(2)


def test_the_client_speaks_to_the_embedded_server(servers):
    with RankerClient(servers[0]) as client:
        prediction = client.predict(ROWS)
        np.testing.assert_array_equal(prediction.scores, SCORES)
        assert prediction.version == 7
        assert client.predict(ROWS, version=7).version == 7
        # This model has no `rank` signature: its inputs are known from the metadata, and so is that.
        ranking = client.rank({"age": 0.5}, {"item_id": ROWS["item_id"]}, k=3)
        assert ranking.item_ids == ("c", "b", "a")
        assert client.metadata()["serving_default"].inputs["item_id"].dtype == "DT_STRING"
        assert [(entry.version, entry.state) for entry in client.status()] == [(7, "AVAILABLE")]
        with pytest.raises(NotFound, match="Servable not found for request: Specific"):
            client.predict(ROWS, version=8)
        with pytest.raises(FailedPrecondition, match='Serving signature key "describe" not found'):
            client.describe()
        with pytest.raises(InvalidArgument, match="input size does not match signature"):
            client.predict({"item_id": ["a"]})


def test_live_traffic_shows_the_difference(servers, tmp_path):
    deployment = from_targets(["low=" + servers[0], "high=" + servers[1]])
    options = GatewayOptions(
        deployment,
        listen="127.0.0.1:0",
        metrics=None,
        slow=60.0,
        mirror=MirrorOptions(rate=1.0, spool=tmp_path),
    )
    running = Running(options)
    try:
        running.wait_until(lambda: len(running.healthy()) == 2)
        with grpc.insecure_channel(running.target) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "ranker"
            for name, values in ROWS.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
            answers = [stub.Predict(request, timeout=20) for _ in range(2)]
        scores = [tf.make_ndarray(answer.outputs["score"]).ravel() for answer in answers]
        np.testing.assert_allclose(abs(scores[0] - scores[1]), 0.5, rtol=1e-6)
        running.wait_until(lambda: running.metric("ranker_gateway_mirror_compared_total") == 2)
    finally:
        running.stop()
    records = [record for path in finished(tmp_path) for record in read(path)]
    assert sorted(record.answers[0].replica for record in records) == ["high", "low"]
    for record in records:
        assert record.item_ids == tuple(ROWS["item_id"])
        by_name = {answer.replica: answer for answer in record.answers}
        np.testing.assert_array_equal(by_name["low"].scores, SCORES)
        np.testing.assert_allclose(by_name["high"].scores - by_name["low"].scores, 0.5, rtol=1e-6)
        assert {answer.version for answer in record.answers} == {7}
