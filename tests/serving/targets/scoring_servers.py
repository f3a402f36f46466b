"""Servers of one model in every protocol: the embedded server, FastAPI, gRPC in front of it, MLServer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import fastapi
import grpc
import httpx
import numpy as np
import uvicorn

from ranker.backend import tf
from serving import wire
from serving.targets.scoring import ModelCall
from tests.processes import wait_until

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


class ShopModel(tf.Module):
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


CALL = ModelCall("shop", "sku", output="logits", json_request=JSON_REQUEST, json_scores="results[*].logit")


PROTOCOLS = ("grpc", "tfserving", "v2", "v2+grpc", "json")


VERSIONS = {"grpc": 3, "tfserving": 3, "v2": 3, "v2+grpc": 3, "json": 1}


def call(**changes):
    return ModelCall(**(vars(CALL) | changes))
