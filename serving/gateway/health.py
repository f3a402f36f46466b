"""The standard health check, answered by the gateway itself."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import grpc.aio

_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"


class Health(grpc.GenericRpcHandler):
    """grpc.health.v1.Health/Check for any service name: SERVING while `is_ready()`.

    The answer has one enum field, number 1; its two forms are spelled as bytes.
    """

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready
        self._handler = grpc.unary_unary_rpc_method_handler(self._check)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Returns the handler of Check."""
        return self._handler if handler_call_details.method == "/grpc.health.v1.Health/Check" else None

    async def _check(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return _SERVING if self._is_ready() else _NOT_SERVING
