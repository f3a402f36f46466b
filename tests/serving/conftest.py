"""Fixtures shared by the serving tests: a stand-in for TF Serving whose faults can be chosen."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serving import wire

# Without a limit on messages, as TF Serving.
_OPTIONS = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
FEATURES = {"user_id": "DT_STRING", "age": "DT_FLOAT", "item_id": "DT_STRING"}


@dataclass
class FakeReplica:
    """A gRPC server that answers as TF Serving does for a ranking model whose score is a formula.

    Faults are attributes that a test sets at any time: `delay` (seconds), `error` (a gRPC code and a text,
    for the next `error_count` calls), `batching` (equal first dimensions only), `mangle` (alters answers);
    `predict_delay` and `predict_error` hold for Predict alone, so that the model's status stays well.
    """

    name: str = "fake-0"
    version: int = 3
    typed_fields: bool = True
    batching: bool = False
    signatures: tuple[str, ...] = ("serving_default", "rank", "describe")
    delay: float = 0.0
    error: tuple[grpc.StatusCode, str] | None = None
    error_count: int = 1 << 30
    predict_delay: float = 0.0
    predict_error: tuple[grpc.StatusCode, str] | None = None
    mangle: Callable[[Any], Any] | None = None
    credentials: grpc.ServerCredentials | None = None
    port: int = 0
    described: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    metadata: list[tuple[tuple[str, str | bytes], ...]] = field(default_factory=list)

    def start(self) -> FakeReplica:
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=_OPTIONS)
        self._server.add_generic_rpc_handlers((_Handler(self),))
        address = f"127.0.0.1:{self.port}"
        self.port = (
            self._server.add_secure_port(address, self.credentials)
            if self.credentials
            else self._server.add_insecure_port(address)
        )
        self._server.start()
        self._lock = threading.Lock()
        return self

    def stop(self) -> None:
        self._server.stop(None).wait()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def requests(self, method: str = "Predict") -> list[Any]:
        return [request for path, request in self.calls if path.endswith("/" + method)]

    def answer(self, path: str, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self.calls.append((path, request))
            self.metadata.append(tuple(tuple(pair) for pair in context.invocation_metadata()))
            failing = self.error is not None and self.error_count > 0
            self.error_count -= failing
        time.sleep(self.delay)
        if failing:
            context.abort(*self.error)
        method = path.rsplit("/", 1)[1]
        if method == "Predict":
            time.sleep(self.predict_delay)
            if self.predict_error is not None:
                context.abort(*self.predict_error)
        response = getattr(self, method.lower())(request, context)
        return self.mangle(response) if self.mangle else response

    def predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        signature = request.model_spec.signature_name or "serving_default"
        if request.model_spec.name != "ranker":
            name = request.model_spec.name
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({name})")
        if signature not in self.signatures:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.'
            )
        inputs = {name: wire.to_array(tensor) for name, tensor in request.inputs.items()}
        for name, array in inputs.items():
            if FEATURES[name] == "DT_STRING" and array.dtype != object:
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, "Expects arg[0] to be string but float is provided"
                )
        if self.batching and len({len(array) for array in inputs.values()}) > 1:
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                "Batching Run() input tensors must have equal 0th-dimension size",
            )
        response = wire.PredictResponse()
        response.model_spec.name, response.model_spec.signature_name = "ranker", signature
        response.model_spec.version.value = self.version
        for name, array in self.outputs(signature, inputs).items():
            response.outputs[name].CopyFrom(wire.to_tensor(array, typed_fields=self.typed_fields))
        return response

    def outputs(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
        if signature == "describe":
            who = {"replica": self.name, "arm": "smelu", "version": self.version}
            return {"description": json.dumps(who | self.described)}
        items = inputs["item_id"]
        scores = np.array([fake_score(item) for item in items], np.float32)
        if signature == "serving_default":
            return {"score": scores[:, None]}
        order = sorted(range(len(items)), key=lambda place: (-scores[place], items[place]))
        return {"item_id": items[order], "score": scores[order]}

    def getmodelmetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        described = _described(tuple(self.signatures))
        response = wire.GetModelMetadataResponse()
        response.metadata["signature_def"].value = described
        return response

    def getmodelstatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        response = wire.GetModelStatusResponse()
        response.model_version_status.add(version=self.version - 1, state=50)
        response.model_version_status.add(version=self.version, state=30)
        return response


_DESCRIBING = threading.Lock()


def _described(signatures: tuple[str, ...]) -> bytes:
    """What a replica answers of its signatures, built by a thread at a time and once for all replicas."""
    with _DESCRIBING:
        return _signature_map(signatures)


@functools.lru_cache(maxsize=16)
def _signature_map(signatures: tuple[str, ...]) -> bytes:
    described = wire.SignatureDefMap()
    for name in signatures:
        definition = described.signature_def[name]
        definition.method_name = "tensorflow/serving/predict"
        for feature, dtype in FEATURES.items() if name != "describe" else ():
            definition.inputs[feature].dtype = wire.DataType.Value(dtype)
            definition.inputs[feature].tensor_shape.dim.add(size=-1)
    return described.SerializeToString()


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, replica: FakeReplica) -> None:
        self._replica = replica
        self._methods = {method.path: method for method in wire.METHODS}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method = self._methods.get(details.method)
        if method is None:
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._replica.answer(method.path, request, context),
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )


def fake_score(item: bytes) -> float:
    """Returns a score in [0, 1] in steps of 1/8, so that candidates tie."""
    return (sum(item) * 37 % 9) / 8


@pytest.fixture
def fake_replica() -> Iterator[Callable[..., FakeReplica]]:
    """Starts fake replicas on ephemeral ports; stops them at the end."""
    started: list[FakeReplica] = []

    def start(**options: Any) -> FakeReplica:
        started.append(FakeReplica(**options).start())
        return started[-1]

    yield start
    for replica in started:
        replica.stop()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "replica")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    chain = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "chain.pem").write_bytes(chain)
    (directory / "key.pem").write_bytes(secret)
    return directory / "chain.pem", directory / "key.pem"
