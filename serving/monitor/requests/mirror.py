"""Receives mirrored Predict calls, answers at once and keeps a sample.

The proxy that mirrors (Envoy, Istio, nginx) drops the answer, so the answer is empty. The caller gets its own answer from a
replica and does not wait for this one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ranker.address import HostPort
from ranker.errors import UserError
from serving import wire
from serving.monitor.requests.reservoir import MirroredCall, Reservoir

MAX_MESSAGE = 4 << 20
"""Bytes of one call, gRPC's own default: larger ones are dropped and counted."""

_AT_A_TIME = 16
"""Calls whose messages are received at a time, which bounds the memory: the others wait in HTTP/2's windows."""
_SECONDS_TO_ARRIVE = 5.0
_SECONDS_TO_STOP = 1.0
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # else a second monitor takes half of the calls in silence
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.keepalive_time_ms", 60_000),
)


class MirrorListener:
    """A gRPC server on a thread of its own.

    Args:
        address: where to listen; port 0: any free one, see `port`.
        reservoir: takes the calls.

    Attributes:
        port: where it listens.

    Raises:
        UserError: the port is in use, or the host is not this machine's.
    """

    def __init__(self, address: HostPort, reservoir: Reservoir) -> None:
        _check_free(address)
        self._reservoir = reservoir
        self._is_up = threading.Event()
        self._error: RuntimeError | None = None
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(str(address))), name="mirror", daemon=True
        )
        self._thread.start()
        self._is_up.wait()
        if self._error is not None:
            self._thread.join()
            raise UserError(f"mirrored calls cannot be taken at {address}: {self._error}")

    def close(self) -> None:
        """Stops listening; calls under way have a second."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self, address: str) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._receiving = asyncio.Semaphore(_AT_A_TIME)
        try:
            server = grpc.aio.server(handlers=[_PredictHandler(self)], options=_OPTIONS)
            self.port = server.add_insecure_port(address)
            await server.start()
        except RuntimeError as error:
            self._error = error
            return
        finally:
            self._is_up.set()
        await self._stop.wait()
        await server.stop(_SECONDS_TO_STOP)

    async def answer(self, bodies: AsyncIterator[bytes], context: Any) -> bytes:
        """Keeps one call's message; an empty message is an empty PredictResponse.

        The method is registered as a stream of requests, the same on the wire as one request: only so is a message that
        does not arrive (too large, broken off) seen here, and counted.
        """
        body = None
        try:
            async with self._receiving:
                body = await asyncio.wait_for(anext(bodies, None), _SECONDS_TO_ARRIVE)
        except (asyncio.TimeoutError, grpc.RpcError, grpc.aio.UsageError):
            pass
        finally:
            if body is None:
                self._reservoir.count_lost()
        if body is not None:
            self._reservoir.offer(MirroredCall(body, _request_id(context)))
        return b""


def _check_free(address: HostPort) -> None:
    # gRPC would say it too, and its own log a second time
    try:
        family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
        socket.create_server(address, family=family).close()
    except OSError as error:
        number = error.errno or 0  # negative where the host has no address
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
        raise UserError(f"mirrored calls cannot be taken at {address}: {reason}") from None


def _request_id(context: Any) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "x-request-id" and isinstance(value, str):
            return value
    return ""


class _PredictHandler(grpc.GenericRpcHandler):
    def __init__(self, listener: MirrorListener) -> None:
        self._handler = grpc.stream_unary_rpc_method_handler(listener.answer)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handler if details.method == wire.PREDICT.path else None
