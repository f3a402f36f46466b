"""One contract for every protocol, against servers that speak it.

The embedded server speaks TF Serving's, a FastAPI application the Open Inference Protocol and JSON, and a gRPC server in
front of the same application the Open Inference Protocol's gRPC. MLServer speaks both where it is installed in an
environment of its own (`make test-mlserver`).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastapi
import grpc
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from typer.testing import CliRunner

from ranker.backend import tf
from ranker.cli import app
from ranker.errors import UserError
from serving import wire
from serving.client import (
    DeadlineExceeded,
    InvalidArgument,
    MalformedAnswer,
    NotFound,
    ServingError,
    Unavailable,
)
from serving.server.api import ServerOptions, start
from serving.targets.scoring import ModelCall, connect
from tests.processes import answers, wait_until

COLUMNS = {
    "user": np.array(["anna", "anna", "bob"], object),
    "price": np.array([1.0, 2.5, np.nan], np.float32),
    "count": np.array([1, 2, 3], np.float32),
    "sku": np.array(["a", "b", "c"], object),
}
JSON_REQUEST = '{"model": "$model", "user": "$context.user", "rows": "$rows", "options": {"depth": 3}}'


INPUTS = [
    {"name": "user", "datatype": "BYTES", "shape": [-1, 1]},
    {"name": "price", "datatype": "FP32", "shape": [-1, 1]},
    {"name": "count", "datatype": "INT64", "shape": [-1]},
]


def logit(user: str, price: float | None, count: int) -> float:
    """The model: letters of the user, minus the price (10 where it is missing), plus 1 for an odd count, else minus 1."""
    return len(user) - (10.0 if price is None or price != price else price) + (1 if count % 2 else -1)


LOGITS = [logit(*row) for row in zip(COLUMNS["user"], COLUMNS["price"].tolist(), [1, 2, 3], strict=True)]


class _Model(tf.Module):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="user"),
            tf.TensorSpec([None, 1], tf.float32, name="price"),
            tf.TensorSpec([None], tf.int64, name="count"),
        ]
    )
    def score(self, user, price, count):
        price = tf.where(tf.math.is_nan(price), 10.0, price)[:, 0]
        odd = tf.cast(2 * (count % 2) - 1, tf.float32)
        logits = tf.cast(tf.strings.length(user), tf.float32) - price + odd
        probabilities = tf.sigmoid(logits)
        return {"logits": logits[:, None], "classes": tf.stack([1 - probabilities, probabilities], axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="features")])
    def matrix(self, features):
        return {"sum": features[:, 0] * 10 + features[:, 1]}


@contextmanager
def running(application: fastapi.FastAPI) -> Iterator[int]:
    """Serves an application on a free port of this machine."""
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    assert server.started
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def application() -> fastapi.FastAPI:
    """The same model by the Open Inference Protocol, and by JSON of its own."""
    app = fastapi.FastAPI()
    app.state.delay = 0.0

    def check_name(model: str) -> None:
        if model not in ("shop", "matrix"):
            raise fastapi.HTTPException(404, f"unknown model {model}")

    @app.get("/v2/models/{model}")
    def metadata(model: str) -> dict:
        check_name(model)
        if model == "matrix":
            return {"name": model, "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]}
        return {"name": model, "versions": ["3"], "inputs": INPUTS}

    @app.post("/v2/models/{model}/infer")
    async def infer(model: str, request: fastapi.Request) -> dict:
        check_name(model)
        body = json.loads(await request.body())
        tensors = {tensor["name"]: tensor for tensor in body["inputs"]}
        for tensor in tensors.values():
            assert int(np.prod(tensor["shape"])) == len(tensor["data"])
        if model == "matrix":
            rows = np.array(tensors["x"]["data"]).reshape(tensors["x"]["shape"])
            output = {
                "name": "sum",
                "datatype": "FP64",
                "shape": [len(rows)],
                "data": (rows @ [10, 1]).tolist(),
            }
            return {"model_name": model, "outputs": [output]}
        wrong = [spec for spec in INPUTS if tensors.get(spec["name"], {}).get("datatype") != spec["datatype"]]
        if wrong or len(tensors) != len(INPUTS):
            raise fastapi.HTTPException(400, f"wrong inputs: {sorted(tensors)}")
        assert [len(tensors[spec["name"]]["shape"]) for spec in INPUTS] == [2, 2, 1]
        logits = [
            logit(*row) for row in zip(*(tensors[spec["name"]]["data"] for spec in INPUTS), strict=True)
        ]
        classes = [[1 / (1 + np.exp(value)), 1 / (1 + np.exp(-value))] for value in logits]
        return {
            "model_name": model,
            "model_version": "v3",
            "outputs": [
                {"name": "logits", "datatype": "FP32", "shape": [len(logits), 1], "data": logits},
                {
                    "name": "classes",
                    "datatype": "FP32",
                    "shape": [len(logits), 2],
                    "data": [value for row in classes for value in row],
                },
            ],
        }

    @app.post("/score")
    def score(body: dict) -> dict:
        time.sleep(app.state.delay)
        if body["model"] != "shop":
            raise fastapi.HTTPException(404, f"unknown model {body['model']}")
        if body["options"] != {"depth": 3} or not body["user"]:
            raise fastapi.HTTPException(422, "no options")
        values = [logit(row["user"], row["price"], int(row["count"])) for row in body["rows"]]
        return {
            "results": [
                {"sku": row["sku"], "logit": value} for row, value in zip(body["rows"], values, strict=True)
            ]
        }

    return app


@contextmanager
def open_inference_grpc(port: int) -> Iterator[int]:
    """The application on `port` as a gRPC server; answers are lists of numbers, or raw contents for `classes`."""

    def document(tensor: Any) -> dict[str, Any]:
        (values,) = (list(value) for _, value in tensor.contents.ListFields())
        values = [value.decode() if isinstance(value, bytes) else value for value in values]
        return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "data": values}

    def send(path: str, context: grpc.ServicerContext, **options: Any) -> dict[str, Any]:
        answer = httpx.request(url=f"http://127.0.0.1:{port}/v2/models/{path}", trust_env=False, **options)
        codes = {404: grpc.StatusCode.NOT_FOUND, 400: grpc.StatusCode.INVALID_ARGUMENT}
        if not answer.is_success:
            context.abort(codes.get(answer.status_code, grpc.StatusCode.INTERNAL), answer.text)
        return answer.json()

    def metadata(request: Any, context: grpc.ServicerContext) -> Any:
        answer = send(request.name, context, method="GET")
        response = wire.MODEL_METADATA.response(name=request.name)
        for tensor in answer["inputs"]:
            response.inputs.add(**tensor)
        return response

    def infer(request: Any, context: grpc.ServicerContext) -> Any:
        body = {"inputs": [document(tensor) for tensor in request.inputs]}
        answer = send(f"{request.model_name}/infer", context, method="POST", content=json.dumps(body))
        response = wire.MODEL_INFER.response(model_version=answer.get("model_version", ""))
        for tensor in answer["outputs"]:
            output = response.outputs.add(**{key: tensor[key] for key in ("name", "datatype", "shape")})
            if request.model_name == "matrix":
                output.contents.fp64_contents.extend(tensor["data"])
            else:
                response.raw_output_contents.append(np.array(tensor["data"], "<f4").tobytes())
        return response

    handlers = {
        method.path.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(
            function, method.request.FromString, method.response.SerializeToString
        )
        for method, function in ((wire.MODEL_METADATA, metadata), (wire.MODEL_INFER, infer))
    }
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),)
    )
    bound = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield bound
    finally:
        server.stop(None).wait()


MLSERVER_MODEL = """
import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceResponse, ResponseOutput

class Shop(MLModel):
    async def predict(self, payload):
        columns = []
        for tensor in payload.inputs:
            values = list(tensor.data)
            columns.append([v.decode() if isinstance(v, bytes) else v for v in values])
        logits = [
            len(user) - (10.0 if price is None or price != price else price) + (1 if count % 2 else -1)
            for user, price, count in zip(*columns)
        ]
        classes = [value for l in logits for value in (1 / (1 + np.exp(l)), 1 / (1 + np.exp(-l)))]
        outputs = [
            ResponseOutput(name="logits", datatype="FP32", shape=[len(logits), 1], data=logits),
            ResponseOutput(name="classes", datatype="FP32", shape=[len(logits), 2], data=classes),
        ]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
"""


@pytest.fixture(scope="module")
def mlserver(tmp_path_factory):
    """Protocol -> the address of MLServer, which serves the same model."""
    python = os.environ.get("STEADY_RANKER_MLSERVER")
    if python is None:
        pytest.skip("STEADY_RANKER_MLSERVER names no Python with MLServer (make test-mlserver)")
    directory = tmp_path_factory.mktemp("mlserver")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    http_port, grpc_port, metrics_port = (opened.getsockname()[1] for opened in sockets)
    for opened in sockets:
        opened.close()
    settings = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    (directory / "settings.json").write_text(
        json.dumps(settings | {"host": "127.0.0.1", "parallel_workers": 0, "debug": False})
    )
    (directory / "shop.py").write_text(MLSERVER_MODEL)
    (directory / "model-settings.json").write_text(
        json.dumps(
            {"name": "shop", "implementation": "shop.Shop", "inputs": INPUTS, "parameters": {"version": "v3"}}
        )
    )
    log = (directory / "log").open("wb")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.Popen(
        [Path(python).with_name("mlserver"), "start", "."],
        cwd=directory,
        stdout=log,
        stderr=log,
        env=environment,
    )
    try:
        wait_until(
            lambda: (
                process.poll() is not None or answers(f"http://127.0.0.1:{http_port}/v2/models/shop/ready")
            ),
            reason=(directory / "log").read_text,
        )
        assert process.poll() is None, (directory / "log").read_text()
        yield {"v2": f"v2+http://127.0.0.1:{http_port}", "v2+grpc": f"v2+grpc://127.0.0.1:{grpc_port}"}
    finally:
        process.terminate()
        process.wait()
        log.close()


@pytest.mark.parametrize("protocol", ["v2", "v2+grpc"])
def test_mlserver(mlserver, protocol):
    with connect(mlserver[protocol], CALL) as client:
        prediction = client.predict(COLUMNS)
        np.testing.assert_allclose(prediction.scores, LOGITS, rtol=1e-6)  # float32 of numbers of two digits
        assert prediction.version == 3
    with (
        connect(mlserver[protocol], call(output="")) as client,
        pytest.raises(MalformedAnswer, match="outputs: classes, logits"),
    ):
        client.predict(COLUMNS)
    with connect(mlserver[protocol], call(model_name="store")) as client, pytest.raises(NotFound):
        client.predict(COLUMNS)


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Protocol -> the address of a server that speaks it; and the directory of the model."""
    base = tmp_path_factory.mktemp("models")
    model = _Model()
    tf.saved_model.save(
        model, str(base / "shop" / "3"), {"serving_default": model.score, "matrix": model.matrix}
    )
    server = start(
        ServerOptions(
            port=0,
            rest_api_port=-1,
            model_name="shop",
            model_base_path=str(base / "shop"),
            max_num_load_retries=0,
        )
    )
    served = application()
    with running(served) as port, open_inference_grpc(port) as grpc_port:
        yield {
            "v2+grpc": f"v2+grpc://127.0.0.1:{grpc_port}",
            "grpc": f"127.0.0.1:{server.port}",
            "tfserving": f"tfserving+http://127.0.0.1:{server.rest_port}",
            "v2": f"v2+http://127.0.0.1:{port}/",
            "json": f"json+http://127.0.0.1:{port}/score",
            "saved_model": str(base / "shop"),
        }
    server.stop(2)


CALL = ModelCall("shop", "sku", output="logits", json_request=JSON_REQUEST, json_scores="results[*].logit")
PROTOCOLS = ("grpc", "tfserving", "v2", "v2+grpc", "json")
VERSIONS = {"grpc": 3, "tfserving": 3, "v2": 3, "v2+grpc": 3, "json": 1}


def call(**changes):
    return ModelCall(**(vars(CALL) | changes))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scores_version_and_latency(servers, protocol):
    with connect(servers[protocol], CALL) as client:
        for _ in range(2):
            prediction = client.predict(COLUMNS)
            # float32 of numbers of two digits
            np.testing.assert_allclose(prediction.scores, LOGITS, rtol=1e-6)
            assert prediction.version == VERSIONS[protocol]
            assert prediction.latency > 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_log_odds_become_probabilities(servers, protocol):
    with connect(servers[protocol], call(scale="logit")) as client:
        scores = client.predict(COLUMNS).scores
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array(LOGITS))), rtol=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS[:4])
def test_a_column_of_an_output(servers, protocol):
    with connect(servers[protocol], call(output="classes[1]")) as client:
        scores = client.predict(COLUMNS).scores
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array(LOGITS))), rtol=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS[:4])
@pytest.mark.parametrize("output", ["", "score"])
def test_outputs_are_named(servers, protocol, output):
    with (
        connect(servers[protocol], call(output=output)) as client,
        pytest.raises(MalformedAnswer, match="outputs: classes, logits; choose one with --output"),
    ):
        client.predict(COLUMNS)


def test_the_path_to_the_scores_is_named(servers):
    with (
        connect(servers["json"], call(json_scores="predictions")) as client,
        pytest.raises(MalformedAnswer, match="no list at `predictions`; the answer has results"),
    ):
        client.predict(COLUMNS)


@pytest.mark.parametrize(
    ("protocol", "changes"),
    [
        ("grpc", {"signature": "matrix"}),
        ("tfserving", {"signature": "matrix"}),
        ("v2", {"model_name": "matrix"}),
        ("v2+grpc", {"model_name": "matrix"}),
    ],
)
def test_a_model_of_one_matrix_gets_the_columns_in_order(servers, protocol, changes):
    rows = {"sku": ["a", "b"], "second": [1.0, 2.0], "first": [3.0, 4.0]}
    with connect(servers[protocol], call(output="", **changes)) as client:
        assert client.predict(rows).scores.tolist() == [13, 24]
        with pytest.raises(UserError, match=r"must get 2 columns\. Received: 1"):
            client.predict({"sku": ["a"], "first": [1.0]})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_another_model_is_not_found(servers, protocol):
    with connect(servers[protocol], call(model_name="store")) as client, pytest.raises(NotFound):
        client.predict(COLUMNS)


@pytest.mark.parametrize("protocol", ["grpc", "tfserving"])
def test_signatures_are_named(servers, protocol):
    with (
        connect(servers[protocol], call(signature="rank")) as client,
        pytest.raises(ServingError, match='"rank" not found; signatures: matrix, serving_default'),
    ):
        client.predict(COLUMNS)


@pytest.mark.parametrize("protocol", PROTOCOLS[:4])
def test_a_refused_request_says_why(servers, protocol):
    rows = {name: COLUMNS[name] for name in ("user", "sku")}
    with connect(servers[protocol], CALL) as client, pytest.raises(ServingError) as caught:
        client.predict(rows)
    assert isinstance(caught.value, InvalidArgument)


@pytest.mark.parametrize(
    "scheme", ["grpc://", "tfserving+http://", "v2+http://", "v2+grpc://", "json+http://"]
)
def test_nobody_listens(scheme):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with (
            connect(f"{scheme}127.0.0.1:{closed.getsockname()[1]}", CALL, deadline=30, retries=0) as client,
            pytest.raises(Unavailable),
        ):
            client.predict(COLUMNS)


@pytest.mark.parametrize("scheme", ["tfserving+http://", "v2+http://", "json+http://"])
def test_a_silent_server_costs_the_deadline(scheme):
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        connect(f"{scheme}127.0.0.1:{silent.getsockname()[1]}", CALL, deadline=0.3) as client,
        pytest.raises(DeadlineExceeded),
    ):
        client.predict(COLUMNS)


def test_templates_and_paths_are_checked_before_a_call():
    for changes, message in (
        ({"json_request": "{"}, "must be JSON"),
        ({"json_request": "{}"}, r"must have \$rows"),
        ({"json_scores": "a["}, "must be JMESPath"),
    ):
        with pytest.raises(UserError, match=message):
            connect("json+http://127.0.0.1:1", call(**changes))


def test_the_monitor_in_front_of_all_protocols(servers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {name: np.tile(values, 20).tolist() for name, values in COLUMNS.items()}
    pq.write_table(pa.table({"session": np.repeat(np.arange(20), 3).tolist(), **rows}), "log.parquet")
    result = CliRunner().invoke(app, ["probe", "log.parquet", "--request=session", "--item=sku"])
    assert result.exit_code == 0, result.exception
    options = ["--probe=probe.parquet", "--item=sku", "--model-name=shop", "--output=logits", "--scale=logit"]
    options += [f"--json-request={JSON_REQUEST}", "--json-scores=results[*].logit", "--once", "--json"]
    replicas = [f"--replica={name.replace('+', '-')}={servers[name]}" for name in PROTOCOLS]
    result = CliRunner().invoke(app, ["monitor", *options, *replicas])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["replicas"] == {name.replace("+", "-"): version for name, version in VERSIONS.items()}
    assert summary["errors"] == {}
    assert summary["measures"]["top1_swap"]["value"] == 0
    assert summary["measures"]["pd_abs"]["value"] < 1e-6  # float32 of one number


def test_the_gate_holds_a_saved_model_to_servers(servers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {name: np.tile(values, 20).tolist() for name, values in COLUMNS.items()}
    pq.write_table(
        pa.table({"request": np.repeat(np.arange(20), 3).astype(str).tolist(), **rows}), "p.parquet"
    )
    arguments = [
        "gate",
        "--probe=p.parquet",
        "--item=sku",
        "--model-name=shop",
        "--measure=top1_swap",
        "--json",
    ]
    arguments += [f"--candidate={servers['saved_model']}", "--allowance=0.5"]
    arguments += [f"--baseline={servers[name]}" for name in ("v2", "tfserving")]
    result = CliRunner().invoke(app, [*arguments, "--output=logits", "--scale=logit"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, arguments)
    assert "outputs: classes, logits; choose one with --output" in result.stderr + str(result.exception)
