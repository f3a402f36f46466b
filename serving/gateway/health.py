"""The standard health check, answered by the gateway itself."""

from __future__ import annotations

from collections.abc import Callable

from serving.gateway.connection import Cancel, Reply
from serving.gateway.listener import Handler
from serving.http2.stream import Stream

CHECK = "/grpc.health.v1.Health/Check"
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"


def health(is_ready: Callable[[], bool]) -> Handler:
    """Returns grpc.health.v1.Health/Check for any service name: SERVING while `is_ready()`.

    The answer has one enum field, number 1; its two forms are spelled as bytes.
    """

    def check(request: bytes, call: Stream, done: Callable[[Reply], None]) -> Cancel:
        done(Reply("OK", _SERVING if is_ready() else _NOT_SERVING))
        return lambda: None

    return check
