"""One replica behind the gateway: a channel that carries bytes both ways."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import grpc.aio

from serving.client.connection import Tls, channel_options
from serving.deployment import Replica
from serving.gateway.breaker import Breaker

Metadata = Sequence[tuple[str, str | bytes]]

# Failures that say something of the replica; the others say something of the request.
_FAULTS = frozenset({"UNAVAILABLE", "INTERNAL", "UNKNOWN", "DATA_LOSS", "ABORTED"})


@dataclass(frozen=True)
class Reply:
    """How a call ended: the answer's bytes with code "OK", or a status and its text."""

    code: str
    body: bytes = b""
    details: str = ""
    trailers: Metadata = ()
    latency: float = 0.0


class Upstream:
    """Sends calls to one replica, and keeps its breaker.

    Args:
      replica: where it is.
      tls: how to connect; None: no TLS.
      breaker: state of its own.
      slow: seconds; an answer that takes longer counts as a failure of the replica.
    """

    def __init__(self, replica: Replica, tls: Tls | None, breaker: Breaker, slow: float) -> None:
        self.name = replica.name
        self.breaker = breaker
        self._slow = slow
        options = channel_options(tls)
        self._channel = (
            grpc.aio.secure_channel(replica.target, tls.credentials(), options)
            if tls
            else grpc.aio.insecure_channel(replica.target, options)
        )
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable] = {}

    def connect(self) -> None:
        """Starts connecting if the channel is idle."""
        self._channel.get_state(try_to_connect=True)

    @property
    def is_connected(self) -> bool:
        """Whether calls reach it."""
        return self._channel.get_state() == grpc.ChannelConnectivity.READY

    @property
    def is_healthy(self) -> bool:
        """Whether callers should be sent here: connected, and the breaker closed."""
        return self.is_connected and not self.breaker.is_open

    @property
    def wants_trial(self) -> bool:
        """Whether the breaker is open and its pause over: a copy of a call may find out how it is now."""
        return self.breaker.is_open and self.breaker.allows(time.monotonic()) and self.is_connected

    async def call(self, path: str, request: bytes, metadata: Metadata, timeout: float | None) -> Reply:
        """Sends one request and tells the breaker how it went."""
        reply = await self.ask(path, request, metadata, timeout)
        self.settle(reply)
        return reply

    def settle(self, reply: Reply, ok: bool = True) -> None:
        """Tells the breaker how a call went: a fault and a slow answer count as failures, and so does `ok=False`."""
        well = ok and reply.code not in _FAULTS and reply.latency < self._slow
        self.breaker.record(well, time.monotonic())

    def late(self) -> None:
        """Tells the breaker that another replica, asked later, answered first."""
        self.breaker.record(False, time.monotonic())

    async def ask(self, path: str, request: bytes, metadata: Metadata, timeout: float | None) -> Reply:
        """Sends one request; a failure is a Reply too. Only cancellation raises."""
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(path)
        started = time.monotonic()
        self.breaker.begin(started)
        call = method(request, timeout=timeout, metadata=metadata)
        try:
            body = await call
            trailers = tuple(await call.trailing_metadata() or ())
            return Reply("OK", body, trailers=trailers, latency=time.monotonic() - started)
        except grpc.aio.AioRpcError as error:
            trailers = tuple(error.trailing_metadata() or ())
            latency = time.monotonic() - started
            return Reply(error.code().name, b"", error.details() or "", trailers, latency)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()
