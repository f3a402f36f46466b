"""The REST API: routes to the same methods as gRPC, with JSON on both sides. FastAPI on uvicorn carries it.

Source: TF Serving's REST API documentation and http_rest_api_util (paths).
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import uvicorn
from fastapi import FastAPI, Request, Response
from google.protobuf import json_format
from starlette.requests import ClientDisconnect

from serving.server.requests.endpoints import CallContext, Endpoints
from serving.server.requests.signatures import DEFAULT_SIGNATURE
from serving.server.transports.json_requests import (
    examples_input,
    parse_object,
    predict_inputs,
    signature_name,
)
from serving.server.transports.json_responses import (
    classification_results,
    error_body,
    predictions,
    regression_results,
)
from serving.status import HTTP_STATUS, Code, StatusError, invalid
from serving.wire import (
    ClassificationRequest,
    ClassificationResponse,
    ModelSpec,
    RegressionRequest,
    RegressionResponse,
)

_LOG = logging.getLogger(__name__)
_VERSION = r"(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
_POST = re.compile(r"/v1/models/([^/:]+)" + _VERSION + r":(classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(r"/v1/models(?:/([^/:]+))?" + _VERSION + r"(?:/(metadata))?", re.IGNORECASE)
_METHODS = ["GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"]
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_NOT_FOUND = b"<HTML><HEAD><TITLE>404 Not Found</TITLE></HEAD></HTML>"
_FIELDS = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
_KEEP_ALIVE_SECONDS = 120
_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class RestOptions:
    """How the REST API behaves.

    Attributes:
        timeout_ms: of every call.
        cors: send CORS headers.
        threads: calls that run at a time.
        max_body_bytes: largest body, before and after decompression.
        pages: further GET paths with their (plain text, media type), such as the metrics.
    """

    timeout_ms: int = 30_000
    cors: bool = False
    threads: int = 16
    max_body_bytes: int = 2**31 - 1
    pages: Mapping[str, Callable[[], tuple[bytes, str]]] = field(default_factory=dict)


class RestApi:
    """Answers HTTP requests, whatever carries them."""

    def __init__(self, endpoints: Endpoints, options: RestOptions):
        self._endpoints = endpoints
        self._options = options
        self._headers = _CORS if options.cors else {}

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, call: CallContext
    ) -> Response:
        """Answers one request; every error becomes `{"error": ...}` with its HTTP status.

        Args:
            method: in upper case.
            path: as sent, percent-encoded, without the query.
            headers: by names in lower case.
            body: as sent.
            call: its deadline.
        """
        if method in ("GET", "HEAD") and path in self._options.pages:
            content, media_type = self._options.pages[path]()
            return Response(content, media_type=media_type)
        if not path.lower().startswith("/v1/"):
            return Response(_NOT_FOUND, 404, media_type="text/html")
        if method == "OPTIONS" and self._options.cors:
            return Response(b"", headers=self._headers, media_type="application/json")
        try:
            if headers.get("content-encoding", "").lower() == "gzip":
                body = _inflate(body, self._options.max_body_bytes)
            status, content = 200, self._route(method, path, body, call)
        except StatusError as error:
            status, content = HTTP_STATUS[error.code], error_body(error.message)
        except Exception:  # noqa: BLE001 - whatever it is, the caller must hear of it, but not of our code
            _LOG.exception("a call failed")
            status, content = HTTP_STATUS[Code.INTERNAL], error_body("Exception calling application")
        return Response(content, status, self._headers, "application/json")

    def _route(self, method: str, path: str, body: bytes, call: CallContext) -> bytes:
        if call.expired():
            self._endpoints.count_not_run("deadline")
            call.timeout_ms()
        if method == "POST" and (match := _POST.fullmatch(path)):
            name, version, label, verb = match.groups()
            spec = _spec(name, version, label)
            document = parse_object(body)
            spec.signature_name = signature_name(document)
            run = {"predict": self._predict, "classify": self._classify, "regress": self._regress}
            return run[verb.lower()](spec, document, call)
        if method == "GET" and (match := _GET.fullmatch(path)):
            name, version, label, metadata = match.groups()
            if not name:
                raise invalid("Missing model name in request.")
            spec = _spec(name, version, label)
            return self._metadata(spec) if metadata else self._status(spec)
        raise invalid(f"Malformed request: {method} {path}")

    def _predict(self, spec: Any, document: Mapping[str, Any], call: CallContext) -> bytes:
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

    def _classify(self, spec: Any, document: Mapping[str, Any], call: CallContext) -> bytes:
        request = ClassificationRequest(model_spec=spec, input=examples_input(document))
        data = self._endpoints.classify(request.SerializeToString(), call)
        return classification_results(ClassificationResponse.FromString(data).result)

    def _regress(self, spec: Any, document: Mapping[str, Any], call: CallContext) -> bytes:
        request = RegressionRequest(model_spec=spec, input=examples_input(document))
        data = self._endpoints.regress(request.SerializeToString(), call)
        return regression_results(RegressionResponse.FromString(data).result)

    def _status(self, spec: Any) -> bytes:
        return (
            json_format.MessageToJson(self._endpoints.model_status(spec), indent=1, **_FIELDS) + "\n"
        ).encode()

    def _metadata(self, spec: Any) -> bytes:
        version, definitions = self._endpoints.signature_definitions(spec)
        texts = {
            name: json_format.MessageToDict(definition, **_FIELDS) for name, definition in definitions.items()
        }
        document = {
            "model_spec": {"name": spec.name, "signature_name": "", "version": str(version)},
            "metadata": {"signature_def": {"signature_def": texts}},
        }
        return (json.dumps(document, indent=1) + "\n").encode()


class RestServer:
    """Listens from construction until `stop`.

    Attributes:
        port: the port.
    """

    def __init__(self, host: str, port: int, endpoints: Endpoints, options: RestOptions):
        """Binds and starts accepting.

        Args:
            host: address to listen on.
            port: TCP port, 0 for a free one.
            endpoints: the API's methods.
            options: see `RestOptions`.

        Raises:
            OSError: the address is taken.
        """
        self._threads = ThreadPoolExecutor(options.threads, "rest")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=128)
        # Connections inherit it. asyncio sets it only on sockets that were made with TCP's own number, and
        # without it a body that follows its headers waits 40 ms for their acknowledgement.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app(RestApi(endpoints, options), options),
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="rest-loop", daemon=True
        )
        self._thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Stops accepting, lets requests under way finish for that long, closes every connection."""
        self._server.config.timeout_graceful_shutdown = math.ceil(grace_seconds)
        self._server.should_exit = True
        self._thread.join(grace_seconds + _STOP_SECONDS)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._socket.close()

    def _app(self, api: RestApi, options: RestOptions) -> FastAPI:
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

        async def answer(request: Request) -> Response:
            try:
                body = await _body(request, options.max_body_bytes)
            except ClientDisconnect:
                return Response(b"", HTTP_STATUS[Code.CANCELLED])
            if body is None:
                return Response(b"body too large", 413, {"Connection": "close"}, "text/plain")
            deadline = time.monotonic() + options.timeout_ms / 1000
            call = CallContext("REST", deadline, dict(request.headers))
            path = request.scope["raw_path"].decode("latin-1")
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, api.answer, request.method, path, call.metadata, body, call
            )

        app.add_api_route(
            "/{path:path}", answer, methods=_METHODS, response_model=None, include_in_schema=False
        )

        async def answer_odd_method(request: Request, error: Exception) -> Response:
            return await answer(request)

        app.add_exception_handler(405, answer_odd_method)
        return app


async def _body(request: Request, limit: int) -> bytes | None:
    """The request's body; None as soon as it is longer than `limit`."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _inflate(body: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, limit)
    except zlib.error:
        raise invalid("the gzip body is damaged") from None
    if inflater.unconsumed_tail:
        raise invalid("the body is larger than the server takes when it is decompressed")
    return plain


def _spec(name: str, version: str | None, label: str | None) -> Any:
    spec = ModelSpec(name=unquote(name))
    if version:
        if len(version.lstrip("0")) > 19 or int(version) >= 2**63:
            raise invalid(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label:
        spec.version_label = unquote(label)
    return spec
