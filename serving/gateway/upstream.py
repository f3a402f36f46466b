"""One replica behind the gateway: a channel to it, and what its answers say of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from serving.client.connection import Tls
from serving.deployment import Replica
from serving.gateway.breaker import Breaker
from serving.gateway.channel import Channel
from serving.gateway.connection import Cancel, Metadata, Reply

# Failures that say something of the replica; the others say something of the request.
_FAULTS = frozenset({"UNAVAILABLE", "INTERNAL", "UNKNOWN", "DATA_LOSS", "ABORTED"})


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
        self._channel = Channel(replica.target, tls)

    def connect(self) -> None:
        """Starts connecting if there is no connection."""
        self._channel.connect()

    @property
    def is_connected(self) -> bool:
        """Whether calls reach it."""
        return self._channel.is_connected

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
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        cancel = self.ask(path, request, metadata, timeout, answer.set_result)
        try:
            reply = await answer
        finally:
            cancel()
        self.settle(reply)
        return reply

    def settle(self, reply: Reply, ok: bool = True) -> None:
        """Tells the breaker how a call went: a fault and a slow answer count as failures, and so does `ok=False`."""
        well = ok and reply.code not in _FAULTS and reply.latency < self._slow
        self.breaker.record(well, time.monotonic())

    def late(self) -> None:
        """Tells the breaker that another replica, asked later, answered first."""
        self.breaker.record(False, time.monotonic())

    def ask(
        self,
        path: str,
        request: bytes,
        metadata: Metadata,
        timeout: float | None,
        done: Callable[[Reply], None],
    ) -> Cancel:
        """Sends one request and calls `done` later; a failure is a Reply too. Returns what cancels the call."""
        self.breaker.begin(time.monotonic())
        return self._channel.call(path, request, metadata, timeout, done)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()
