"""Envoy in front of the embedded server, and TF Serving's own Python client through it."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ranker.backend import tf
from serving.client import InvalidArgument, NotFound, RankerClient
from serving.server.api import ServerOptions, start
from tests.processes import wait_until
from tests.serving.gateway.conftest import ranker
from tests.serving.server.saved_models import save_ranker

ROWS = {"item_id": ["c", "a", "b", "?"], "age": [0.5, 0.5, 0.5, 0.5]}
SCORES = np.array([3.5, 1.5, 2.5, 0.5], np.float32)


class Served:
    """An embedded server as a replica."""

    def __init__(self, name: str, base) -> None:
        self.name = name
        self.server = start(ServerOptions(port=0, model_name="ranker", model_base_path=str(base)))
        self.target = f"127.0.0.1:{self.server.port}"


@pytest.fixture
def servers(tmp_path):
    """Two embedded servers of one model, the second's scores a half higher."""
    started = []
    for name, bias in (("low", 0.0), ("high", 0.5)):
        save_ranker(tmp_path / name / "7", bias)
        started.append(Served(name, tmp_path / name))
    yield started
    for served in started:
        served.server.stop(2)


def test_the_client_through_envoy_to_embedded_servers(servers, gateway):
    running = gateway(servers, "--balance=round-robin")
    with RankerClient(running.target) as client:
        scores = [client.predict(ROWS).scores for _ in range(8)]
        assert {float(values[1]) for values in scores} == {1.5, 2.0}
        assert client.predict(ROWS, version=7).version == 7
        ranking = client.rank({"age": 0.5}, {"item_id": ROWS["item_id"]}, k=3)
        assert ranking.item_ids == ("c", "b", "a")
        assert client.metadata()["serving_default"].inputs["item_id"].dtype == "DT_STRING"
        assert [(entry.version, entry.state) for entry in client.status()] == [(7, "AVAILABLE")]
        with pytest.raises(NotFound, match="Servable not found for request: Specific"):
            client.predict(ROWS, version=8)
        with pytest.raises(InvalidArgument, match="input size does not match signature"):
            client.predict({"item_id": ["a"]})


def test_tf_servings_own_client_and_a_drained_server(servers, gateway):
    running = gateway(servers)
    done = ranker("gateway", "drain", "high", f"--replicas-file={running.replicas_file}")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: running.healthy() == 1)
    with grpc.insecure_channel(running.target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "ranker"
        for name, values in ROWS.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        for _ in range(6):
            answer, sent = stub.Predict.with_call(request, timeout=20)
            np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["score"]).ravel(), SCORES)
            assert dict(sent.initial_metadata())["x-ranker-replica"] == "low"
