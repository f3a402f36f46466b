"""The Open Inference Protocol over gRPC: the documents of its REST API as messages."""

from __future__ import annotations

import struct
import time
from typing import Any
from urllib.parse import unquote

import grpc
import numpy as np

from serving import wire
from serving.client import MalformedAnswer, ServingError, Tls
from serving.client.connection import backoff, channel_options
from serving.client.errors import error_for
from serving.targets.target import Target

_CONTENTS = {
    "BYTES": "bytes_contents",
    "BOOL": "bool_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
}
_DTYPES = {
    "BOOL": "?",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
}
"""Types of raw contents, little-endian."""


class GrpcDocumentConnection:
    """Sends the documents of the protocol's REST API by gRPC; errors are those of `serving.client`.

    Args:
        target: the server.
        deadline: seconds of a call, retries included.
        retries: how often a call is sent again after UNAVAILABLE.
        tls: whom to trust and who we are; None: no TLS.
    """

    def __init__(self, target: Target, deadline: float, retries: int, tls: Tls | None) -> None:
        self.target, self._deadline, self._retries = target, deadline, retries
        address = str(target.address)
        options = channel_options(address, tls)
        self._channel = (
            grpc.secure_channel(address, tls.credentials(), options)
            if tls
            else grpc.insecure_channel(address, options)
        )

    def get(self, path: str) -> Any:
        """Gets a model's metadata; `path` is that of the REST API."""
        request = wire.ModelMetadataRequest(name=_model_name(path))
        answer, _ = self._send(wire.MODEL_METADATA, request)
        return {
            key: [
                {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
                for tensor in getattr(answer, key)
            ]
            for key in ("inputs", "outputs")
        }

    def post(self, path: str, document: Any) -> tuple[Any, float]:
        """Sends a document of `/infer`; returns the answer's and the seconds it took."""
        request = wire.ModelInferRequest(model_name=_model_name(path))
        for tensor in document["inputs"]:
            datatype = "FP32" if tensor["datatype"] == "FP16" else tensor["datatype"]
            message = request.inputs.add(name=tensor["name"], datatype=datatype, shape=tensor["shape"])
            values = tensor["data"]
            if datatype == "BYTES":
                values = [value.encode() if isinstance(value, str) else value for value in values]
            getattr(message.contents, _CONTENTS[datatype]).extend(values)
        answer, latency = self._send(wire.MODEL_INFER, request)
        raw = list(answer.raw_output_contents)
        outputs = []
        for place, tensor in enumerate(answer.outputs):
            try:
                data = _unpacked(raw[place], tensor.datatype) if raw else _listed(tensor)
            except (KeyError, IndexError, ValueError, struct.error):
                raise self.malformed(
                    f"output `{tensor.name}` whose contents are no {tensor.datatype}"
                ) from None
            outputs.append({"name": tensor.name, "shape": list(tensor.shape), "data": data})
        return {"model_version": answer.model_version, "outputs": outputs}, latency

    def malformed(self, reason: str) -> MalformedAnswer:
        """The error of an answer that holds no scores."""
        return MalformedAnswer(
            str(self.target), "OK", reason, f"{self.target}: the answer is not a ranking model's: {reason}"
        )

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _send(self, method: wire.Method, request: Any) -> tuple[Any, float]:
        call = self._channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        expires, waits = time.monotonic() + self._deadline, backoff(self._retries)
        while True:
            started = time.monotonic()
            try:
                answer = call(request, timeout=max(expires - started, 0.001))
                return answer, time.monotonic() - started
            except grpc.RpcError as status:
                failure: ServingError = error_for(
                    str(self.target), status.code().name, status.details() or "", self._deadline
                )
            wait = next(waits, None) if failure.code == "UNAVAILABLE" else None
            if wait is None or time.monotonic() + wait >= expires:
                raise failure
            time.sleep(wait)


def _model_name(path: str) -> str:
    return unquote(path.split("/")[3])


def _listed(tensor: Any) -> list[Any]:
    return list(getattr(tensor.contents, _CONTENTS[tensor.datatype]))


def _unpacked(content: bytes, datatype: str) -> list[Any]:
    """Values of raw contents; texts are preceded by their length, 4 bytes."""
    if datatype != "BYTES":
        return np.frombuffer(content, _DTYPES[datatype]).tolist()
    values, position = [], 0
    while position < len(content):
        (size,) = struct.unpack_from("<I", content, position)
        values.append(content[position + 4 : position + 4 + size])
        position += 4 + size
    return values
