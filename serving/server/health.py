"""The standard gRPC health service, its two small messages coded by hand.

`grpcio-health-checking` asks for another protobuf than TensorFlow does. The request is one string field,
the response one enum; an overall status and the two services' short names are known, as in TF Serving.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from serving.server.endpoints import Call
from serving.server.wire import declare
from serving.status import Code, ServingError

_messages = declare("steady_ranker.health", {"Request": ["string service 1"], "Response": ["int32 status 1"]})
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
_WATCH_SECONDS = 1.0
_SERVICES = ("", "ModelService", "PredictionService")


class Health:
    """Answers SERVING from the moment the port is open until the drain begins."""

    def __init__(self) -> None:
        self._draining = threading.Event()

    def check(self, data: bytes, call: Call) -> bytes:
        """grpc.health.v1.Health.Check.

        Raises:
            ServingError: NOT_FOUND for a service that is not known.
        """
        service = _messages["Request"].FromString(data).service
        if service not in _SERVICES:
            raise ServingError(Code.NOT_FOUND, "")
        return self._status(service)

    def watch(self, data: bytes, wanted: Callable[[], bool]) -> Iterator[bytes]:
        """grpc.health.v1.Health.Watch: the status now, and again when the drain begins."""
        service = _messages["Request"].FromString(data).service
        draining = self._draining.is_set()
        yield self._status(service)
        while wanted() and not draining:
            draining = self._draining.wait(_WATCH_SECONDS)
        if wanted():
            yield self._status(service)

    def drain(self) -> None:
        """From now on NOT_SERVING."""
        self._draining.set()

    def _status(self, service: str) -> bytes:
        status = NOT_SERVING if self._draining.is_set() else SERVING
        if service not in _SERVICES:
            status = SERVICE_UNKNOWN
        return _messages["Response"](status=status).SerializeToString()
