"""The gateway's own address: calls read and answered on the event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial

from ranker.errors import UserError
from serving.client.connection import MAX_MESSAGE
from serving.gateway.connection import Cancel, Reply
from serving.gateway.protocol import Http2Protocol
from serving.http2 import frames, hpack, messages
from serving.http2.requests import RequestReader
from serving.http2.stream import Stream
from serving.status import Code, ServingError

_LOG = logging.getLogger(__name__)
_SWEEP_SECONDS = 1.0
_GREETING_SECONDS = 20.0
_STALL_SECONDS = 60.0
_USER_TIMEOUT_MS = 60_000
_MAX_CONNECTIONS = 1024
_MOST_BYTES = 64 * 2**20

Handler = Callable[[bytes, Stream, Callable[[Reply], None]], Cancel]
"""A unary method: takes the request, its stream for headers and deadline, and what to call with the reply; gives
what to call if the caller goes away."""


class Listener:
    """Serves methods over gRPC from `start` to `stop`.

    Args:
      handlers: gRPC path to method; a call of any other is answered with UNIMPLEMENTED.

    Attributes:
      port: where it listens.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self.handlers = handlers
        self.port = 0
        self._connections: set[_Caller] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Starts listening.

        Args:
          host: a name or address; `::` is every address of both families.
          port: 0 for any free one.
          tls: None for plain text.

        Raises:
          UserError: the address is taken, or not ours.
        """
        host = host.strip("[]")
        try:
            sock = socket.create_server(
                (host, port),
                family=socket.AF_INET6 if ":" in host else socket.AF_INET,
                dualstack_ipv6=host == "::",
            )
        except OSError:
            raise UserError(f"cannot listen on {host}:{port}: the address is taken or not ours") from None
        self.port = sock.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Caller(self), sock=sock, ssl=tls)
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self, seconds: float) -> None:
        """Refuses new calls, lets those under way finish for so long, then cuts every connection."""
        if self._server is None or self._sweeper is None:
            return
        self._sweeper.cancel()
        self._server.close()
        for connection in self._connections:
            connection.drain()
        limit = time.monotonic() + seconds
        while any(connection.is_busy for connection in self._connections) and time.monotonic() < limit:
            await asyncio.sleep(0.005)
        for connection in list(self._connections):
            connection.cut()
        while self._connections:
            await asyncio.sleep(0)

    def joined(self, connection: _Caller) -> bool:
        """Notes a new connection; False if there are too many."""
        self._connections.add(connection)
        return len(self._connections) <= _MAX_CONNECTIONS

    def left(self, connection: _Caller) -> None:
        """Notes a connection's end."""
        self._connections.discard(connection)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = time.monotonic()
            for connection in list(self._connections):
                connection.sweep(now)


class _Caller(Http2Protocol):
    """One caller's connection."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(_USER_TIMEOUT_MS)
        self._listener = listener
        self._cancels: dict[int, Cancel] = {}
        self._began = time.monotonic()

    @property
    def _reader(self) -> RequestReader:
        return self._requests

    def _greet(self, send: Callable[[bytes], object]) -> None:
        self._requests = RequestReader(self._books, send, self._listener.handlers, MAX_MESSAGE, self._cancel)
        if not self._listener.joined(self):
            self.cut()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if (
            self._transport.get_write_buffer_size() > _MOST_BYTES
        ):  # a caller that asks and asks, and reads nothing
            self.cut()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        for cancel in list(self._cancels.values()):
            cancel()
        self._cancels.clear()
        self._listener.left(self)

    @property
    def is_busy(self) -> bool:
        return self._books.busy() or self._transport.get_write_buffer_size() > 0

    def drain(self) -> None:
        self._reader.draining = True
        self._transport.write(frames.goaway(self._reader.last_stream, frames.NO_ERROR))

    def cut(self) -> None:
        self._transport.abort()

    def sweep(self, now: float) -> None:
        if not self._reader.greeted and now - self._began > _GREETING_SECONDS:
            self._transport.abort()
        for stream in self._outgoing.give_up(now - _STALL_SECONDS):
            self._end(stream, frames.rst_stream(stream.number, frames.CANCEL))
            stream.cancelled = True

    def _take(self, stream: Stream) -> None:
        try:
            encoding = stream.metadata.get("grpc-encoding", "")
            request = messages.unpack(bytes(stream.body), encoding, MAX_MESSAGE)
        except ServingError as error:
            self._end(stream, messages.refusal(stream.number, error))
            return
        stream.body = bytearray()
        handler = self._listener.handlers[stream.path]
        self._cancels[stream.number] = lambda: None  # until the handler has said how
        try:
            cancel = handler(request, stream, partial(self._answer, stream))
        except Exception:  # noqa: BLE001 - whatever it is, the caller must hear of it
            _LOG.exception("%s failed", stream.path)
            self._answer(stream, Reply("UNKNOWN", details="Unexpected error in the gateway"))
            return
        if stream.number in self._cancels:  # not answered at once
            self._cancels[stream.number] = cancel

    def _answer(self, stream: Stream, reply: Reply) -> None:
        self._cancels.pop(stream.number, None)
        if reply.code != "OK":
            block = messages.status_only(Code[reply.code], reply.details, reply.trailers)
            self._end(stream, messages.ending(stream.number, block))
            return
        block = messages.OK_TRAILERS
        if reply.trailers:
            block += _encoded(tuple(reply.trailers))
        if self._books.take_whole(stream, reply.body):
            self._end(stream, messages.unary_answer(stream.number, reply.body, block))
        else:
            self._transport.write(messages.opening(stream.number))
            ended = partial(self._end, stream, messages.ending(stream.number, block))
            self._outgoing.hold(stream, messages.pack(reply.body), ended)

    def _end(self, stream: Stream, last: bytes) -> None:
        self._books.forget(stream)
        if not stream.cancelled:
            self._transport.write(last)

    def _cancel(self, stream: Stream) -> None:
        cancel = self._cancels.pop(stream.number, None)
        if cancel is not None:
            cancel()
            self._books.forget(stream)


# Nearly all answers of a replica carry the same few.
@lru_cache(256)
def _encoded(headers: tuple[hpack.Header, ...]) -> bytes:
    return hpack.encode(list(headers))
