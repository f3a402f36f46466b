"""A client of one server under test, and requests with exactly the fields a test wants."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_status_pb2,
    input_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ranker.backend import tf
from serving.server.api import RunningServer

Code = grpc.StatusCode
TWO = np.array([[2.0]], np.float32)


@dataclass
class Client:
    """Stubs and shortcuts for one server."""

    server: RunningServer

    def __post_init__(self):
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{self.server.port}", [("grpc.max_receive_message_length", -1)]
        )
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def predict(self, model="m", signature="", version=None, label=None, outputs=(), timeout=20, **inputs):
        request = predict_request(model, signature, version, label, outputs, **inputs)
        return self.prediction.Predict(request, timeout)

    def http(self, path, body=None, method=None, headers=None):
        """(status, JSON or text) of a REST call."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.server.rest_port}{path}", body, headers or {}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                status, text = response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text.decode()

    def close(self):
        self.channel.close()


def predict_request(model="m", signature="", version=None, label=None, outputs=(), **inputs):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for name, value in inputs.items():
        value = value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value)
        request.inputs[name].CopyFrom(value)
    return request


def config_text(models, extra=""):
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" {extra} }} '
        for name, path in models.items()
    )
    return f"model_config_list {{ {entries} }}"


def failure(call, *arguments, **options):
    """(code, details) of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    return caught.value.code(), caught.value.details()


def tensor(dtype, shape=(), **values):
    """A TensorProto with exactly these fields."""
    proto = tf.make_tensor_proto(0.0)
    proto.Clear()
    proto.dtype = dtype
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    for name, value in values.items():
        if isinstance(value, bytes):
            proto.tensor_content = value
        else:
            getattr(proto, name).extend(value)
    return proto


def status(client, name, version=None):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    return client.model.GetModelStatus(request, 10)


def states(client, name="m"):
    return {entry.version: entry.state for entry in status(client, name).model_version_status}


def served(client, **options):
    answer = client.predict(x=TWO, **options)
    return answer.model_spec.version.value, list(answer.outputs["y"].float_val)


def reload_request(text):
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(text, request.config)
    return request


def examples(*values, context=None):
    result = input_pb2.Input()
    target = result.example_list.examples
    if context is not None:
        result.example_list_with_context.context.features.feature["x"].float_list.value.append(context)
        target = result.example_list_with_context.examples
    for value in values:
        example = target.add()
        if value is not None:
            example.features.feature["x"].float_list.value.append(value)
    return result
