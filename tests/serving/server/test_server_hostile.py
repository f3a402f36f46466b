"""Malformed and hostile requests: each gets its error, the server answers the next good one, memory stays flat."""

from __future__ import annotations

import os
import random
import shutil

import grpc
import numpy as np
import psutil
import pytest

from ranker.backend import tf
from tests.processes import wait_until
from tests.serving.server.server_client import predict_request, tensor

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METHODS = [
    PREDICT,
    *(f"/tensorflow.serving.PredictionService/{name}" for name in ("Classify", "Regress", "MultiInference")),
    "/tensorflow.serving.PredictionService/GetModelMetadata",
    "/tensorflow.serving.ModelService/GetModelStatus",
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
    "/tensorflow.serving.SessionService/SessionRun",
]


def good():
    return predict_request(item_id=["a"], age=[1.0]).SerializeToString()


def odd_tensor(rng):
    shape = [
        rng.choice([0, 1, 2, 3, -1, 2**31, 2**40, 2**62]) for _ in range(rng.choice([0, 1, 1, 1, 2, 5, 300]))
    ]
    values = {
        "float_val": [
            rng.choice([float("nan"), float("inf"), -0.0, 1e38, 1.0]) for _ in range(rng.randrange(4))
        ],
        "int64_val": [rng.randrange(-(2**63), 2**63) for _ in range(rng.randrange(3))],
        "string_val": [rng.randbytes(rng.randrange(20)) for _ in range(rng.randrange(3))],
        "content": rng.randbytes(rng.choice([0, 0, 4, 7])),
    }
    return tensor(rng.choice([0, 1, 2, 3, 7, 9, 10, 14, 19, 20, 21, 22, 99, 101, 120]), shape, **values)


def hostile(rng):
    """(method, bytes) of one request that is wrong in some way, or odd but fine."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(METHODS), rng.randbytes(rng.randrange(200))
    if kind == 1:
        data = bytearray(good())
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return rng.choice(METHODS), bytes(data)
    if kind == 2:
        return PREDICT, good()[: rng.randrange(60)]
    names = rng.choice([["item_id", "age"], ["item_id"], ["age", "x"], ["\u00e9", "item_id"], []])
    request = predict_request(
        model=rng.choice(["m", "m", "m", "", "x" * 5000]),
        signature=rng.choice(["", "serving_default", "loop2", "no", "\0"]),
        version=rng.choice([None, None, 7, -1, 2**62]),
        outputs=rng.choice([[], ["score"], ["score", "score"], ["no"]]),
        **{name: odd_tensor(rng) for name in names},
    )
    if kind == 3:
        request.inputs["age"].CopyFrom(tensor(1, [rng.choice([10**6, 10**9, 10**12])]))
    if kind == 4:
        request.inputs["item_id"].CopyFrom(tensor(7, [2**20], string_val=[b"x" * 100]))
    return PREDICT, request.SerializeToString()


def campaign(client, seed, count):
    """Sends `count` hostile requests with a good one after each twenty; gives the status codes seen."""
    rng = random.Random(seed)
    methods = {path: client.channel.unary_unary(path) for path in METHODS}
    codes = set()
    for index in range(count):
        path, data = hostile(rng)
        try:
            methods[path](data, timeout=30)
            codes.add("OK")
        except grpc.RpcError as error:
            codes.add(error.code().name)
            if error.code().name in {"UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED"}:
                pytest.fail(f"request {index} of seed {seed}: {error}")
        if index % 20 == 0:
            answer = client.predict(item_id=["a"], age=[1.0])
            np.testing.assert_allclose(tf.make_ndarray(answer.outputs["score"]), [[2.0]])
    return codes


@pytest.fixture
def strict_server(serve, models):
    return serve(model_name="m", model_base_path=str(models / "ranker"), strict=True)


def test_hostile_requests_get_their_errors(strict_server):
    codes = campaign(strict_server, seed=1, count=400)
    assert {"INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL", "UNIMPLEMENTED", "PERMISSION_DENIED"} <= codes


def test_large_messages_are_refused_and_the_next_is_answered(serve, models):
    client = serve(model_name="m", model_base_path=str(models / "ranker"), max_message_bytes=2**20)
    call = client.channel.unary_unary(PREDICT)
    for _ in range(3):
        with pytest.raises(grpc.RpcError) as caught:
            call(os.urandom(2**21), timeout=30)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert client.predict(item_id=["a"], age=[1.0]).outputs["score"].float_val


@pytest.mark.parametrize(
    "body", [b"\0" * 1000, b"{" * 50_000, b'{"instances": ' + b"[" * 900, b'{"inputs": 1e999}']
)
def test_hostile_json(serve, models, body):
    client = serve(
        rest_api_port=-1, model_name="m", model_base_path=str(models / "half_plus_two"), strict=True
    )
    status, answer = client.http("/v1/models/m:predict", body)
    assert status == 400
    assert "error" in answer
    assert client.http("/v1/models/m:predict", {"instances": [[2.0]]})[0] == 200


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_thousand_hostile_requests_leave_memory_flat(strict_server):
    process = psutil.Process()
    campaign(strict_server, seed=2, count=4_000)
    before = process.memory_info().rss
    campaign(strict_server, seed=3, count=20_000)
    call = strict_server.channel.unary_unary(PREDICT)
    big = predict_request(item_id=["a"], age=tf.make_tensor_proto(np.zeros(16 * 2**20 - 100, np.float32)))
    for _ in range(10):
        with pytest.raises(grpc.RpcError):
            call(big.SerializeToString(), timeout=60)
    strict_server.predict(item_id=["a"], age=[1.0])
    assert process.memory_info().rss < before * 1.1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_returns_after_unload(models, serve, tmp_path):
    """Ten loads and unloads of a model end where two of them did."""
    base = tmp_path / "base"
    shutil.copytree(models / "ranker" / "7", base / "1")
    client = serve(model_name="m", model_base_path=str(base), file_system_poll_wait_seconds=0.1)
    process = psutil.Process()
    sizes = []
    for version in range(2, 14):
        shutil.copytree(models / "ranker" / "7", base / ".tmp")
        os.rename(base / ".tmp", base / str(version))
        wait_until(lambda version=version: client.server.core.manager.available() == [("m", version)])
        sizes.append(process.memory_info().rss)
    assert sizes[-1] < sizes[1] * 1.05
