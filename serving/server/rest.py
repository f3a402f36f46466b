"""The REST API: routes to the same methods as gRPC, with JSON on both sides.

Source: TF Serving's REST API documentation and http_rest_api_util (paths).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from google.protobuf import json_format
from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2, model_pb2, regression_pb2

from serving.server.endpoints import Call, Endpoints
from serving.server.http_server import Request, Response
from serving.server.json_body import parse_object
from serving.server.json_examples import examples_input
from serving.server.json_output import classification_results, error_body, predictions, regression_results
from serving.server.json_tensors import predict_inputs, signature_name
from serving.server.signatures import DEFAULT_SIGNATURE
from serving.status import HTTP_STATUS, ServingError, invalid

_WHICH = r"(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
_POST = re.compile(r"/v1/models/([^/:]+)" + _WHICH + r":(classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(r"/v1/models(?:/([^/:]+))?" + _WHICH + r"(?:/(metadata))?", re.IGNORECASE)
_JSON = {"Content-Type": "application/json"}
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_PRINT = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True, "indent": 1}


class RestApi:
    """Answers HTTP requests; give `handle` to a `HttpServer`."""

    def __init__(
        self,
        endpoints: Endpoints,
        timeout_ms: int,
        cors: bool = False,
        pages: Mapping[str, Callable[[], bytes]] | None = None,
    ):
        """Wires the routes.

        Args:
            endpoints: the API's methods.
            timeout_ms: of every call.
            cors: send CORS headers.
            pages: further GET paths with their plain text, such as the metrics.
        """
        self._endpoints = endpoints
        self._timeout = timeout_ms / 1000
        self._headers = {**_JSON, **_CORS} if cors else _JSON
        self._cors = cors
        self._pages = dict(pages or {})

    def handle(self, request: Request) -> Response:
        """Answers one request; every error becomes `{"error": ...}` with its HTTP status."""
        if request.method in ("GET", "HEAD") and request.path in self._pages:
            return Response(200, self._pages[request.path](), {"Content-Type": "text/plain"})
        if not request.path.lower().startswith("/v1/"):
            return Response(
                404, b"<HTML><HEAD><TITLE>404 Not Found</TITLE></HEAD></HTML>", {"Content-Type": "text/html"}
            )
        if request.method == "OPTIONS" and self._cors:
            return Response(200, b"", self._headers)
        try:
            return Response(200, self._route(request), self._headers)
        except ServingError as error:
            return Response(HTTP_STATUS[error.code], error_body(error.message), self._headers)

    def _route(self, request: Request) -> bytes:
        call = Call("REST", time.monotonic() + self._timeout, request.headers)
        if request.method == "POST" and (match := _POST.fullmatch(request.path)):
            name, version, label, method = match.groups()
            spec = _spec(name, version, label)
            document = parse_object(request.body)
            spec.signature_name = signature_name(document)
            return getattr(self, "_" + method.lower())(spec, document, call)
        if request.method == "GET" and (match := _GET.fullmatch(request.path)):
            name, version, label, metadata = match.groups()
            if not name:
                raise invalid("Missing model name in request.")
            spec = _spec(name, version, label)
            return self._metadata(spec, call) if metadata else self._status(spec)
        raise invalid(f"Malformed request: {request.method} {request.path}")

    def _predict(self, spec: Any, document: Mapping[str, Any], call: Call) -> bytes:
        row_form = False

        def read(signatures: Mapping[str, Any]) -> Mapping[str, Any]:
            nonlocal row_form
            name = spec.signature_name or DEFAULT_SIGNATURE
            if name not in signatures:
                raise invalid(f'Serving signature name: "{name}" not found in signature def')
            if not signatures[name].inputs:
                raise invalid(f"Failed to get input map for signature: {spec.signature_name or 'DEFAULT'}")
            arrays, row_form = predict_inputs(document, signatures[name].inputs)
            return arrays

        outputs = self._endpoints.predict_arrays(spec, read, call)
        return predictions(outputs, row_form)

    def _classify(self, spec: Any, document: Mapping[str, Any], call: Call) -> bytes:
        request = classification_pb2.ClassificationRequest(model_spec=spec, input=examples_input(document))
        data = self._endpoints.classify(request.SerializeToString(), call)
        return classification_results(classification_pb2.ClassificationResponse.FromString(data).result)

    def _regress(self, spec: Any, document: Mapping[str, Any], call: Call) -> bytes:
        request = regression_pb2.RegressionRequest(model_spec=spec, input=examples_input(document))
        data = self._endpoints.regress(request.SerializeToString(), call)
        return regression_results(regression_pb2.RegressionResponse.FromString(data).result)

    def _status(self, spec: Any) -> bytes:
        return (json_format.MessageToJson(self._endpoints.model_status(spec), **_PRINT) + "\n").encode()

    def _metadata(self, spec: Any, call: Call) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
        data = self._endpoints.get_model_metadata(request.SerializeToString(), call)
        response = get_model_metadata_pb2.GetModelMetadataResponse.FromString(data)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(definitions)
        spec_text = json_format.MessageToJson(response.model_spec, **_PRINT)
        text = json_format.MessageToJson(definitions, **_PRINT)
        return f'{{\n"model_spec":{spec_text},\n"metadata": {{"signature_def": {text}}}\n}}\n'.encode()


def _spec(name: str, version: str | None, label: str | None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(name))
    if version:
        if int(version) >= 2**63:
            raise invalid(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label:
        spec.version_label = unquote(label)
    return spec
