"""One connection to one replica: gRPC calls, bytes both ways, on the event loop.

A hop through the asyncio of `grpcio` costs more than a millisecond; this one costs half of that.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from serving.client.connection import MAX_MESSAGE
from serving.http2 import frames, hpack, messages
from serving.http2.books import Books
from serving.http2.frames import ProtocolError
from serving.http2.outgoing import Outgoing
from serving.http2.responses import ResponseReader, result, trailers
from serving.http2.stream import Stream
from serving.status import ServingError

_LOG = logging.getLogger(__name__)
_USER_TIMEOUT_MS = 20_000

Metadata = Sequence[hpack.Header]
Cancel = Callable[[], object]
"""Ends a call whose reply nobody waits for; once it is there, without effect."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How a call ended: the answer's bytes with code "OK", or a status and its text.

    Attributes:
      trailers: the metadata that came with the status, as it came.
      latency: seconds.
    """

    code: str
    body: bytes = b""
    details: str = ""
    trailers: Metadata = ()
    latency: float = 0.0


Done = Callable[[Reply], None]


class Connection(asyncio.Protocol):
    """Calls over one connection, from the server's greeting to its end.

    Args:
      scheme: `http` or `https`.
      authority: whom the calls are for.

    Attributes:
      greeted: done once the server has spoken; fails if it goes before.
    """

    def __init__(self, scheme: str, authority: str) -> None:
        self._scheme, self._authority = scheme.encode(), authority.encode()
        self._books = Books()
        self._calls: dict[int, _Waiting] = {}
        self._has_room = True
        # A listening kernel accepts for a process that hangs: only the server's first frame says that it is there.
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def takes_calls(self) -> bool:
        """Whether new calls may be sent."""
        return not self._lost.done() and not self._reader.draining

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets the server; called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        tune(transport, _USER_TIMEOUT_MS)
        self._outgoing = Outgoing(self._books, transport.write, lambda: self._has_room)
        self._reader = ResponseReader(self._books, transport.write, MAX_MESSAGE)

    def call(
        self, path: str, request: bytes, metadata: Metadata, timeout: float | None, done: Done
    ) -> Cancel:
        """As `Channel.call`; to be called once greeted."""
        loop = asyncio.get_running_loop()
        stream = self._reader.open(path)
        if stream is None:
            full = Reply("UNAVAILABLE", details="The connection takes no more calls")
            return loop.call_soon(done, full).cancel
        number = stream.number
        timer = None if timeout is None else loop.call_later(timeout, self._late, number)
        self._calls[number] = _Waiting(stream, done, timer, time.monotonic())
        head = frames.frame(
            frames.HEADERS, frames.END_HEADERS, number, self._headers(path, metadata, timeout)
        )
        if self._books.take_whole(stream, request):
            self._transport.write(
                head + frames.frame(frames.DATA, frames.END_STREAM, number, messages.pack(request))
            )
        else:
            self._transport.write(head)
            self._outgoing.hold(stream, messages.pack(request), partial(self._sent, stream))
        return partial(self._cancel, number)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        try:
            for stream in self._reader.feed(data):
                self._answered(stream)
        except ProtocolError as error:
            _LOG.warning("a replica broke the protocol: %s", error)
            self._transport.write(frames.goaway(0, error.code, str(error)))
            self._transport.close()
            return
        if self._reader.greeted and not self.greeted.done():
            self.greeted.set_result(None)
        self._outgoing.pump()
        if self._reader.draining:
            self._drain()

    def pause_writing(self) -> None:
        """Called by asyncio."""
        self._has_room = False

    def resume_writing(self) -> None:
        """Called by asyncio."""
        self._has_room = True
        self._outgoing.pump()

    def connection_lost(self, error: Exception | None) -> None:
        """Fails the calls under way; called by asyncio."""
        self._books.end()
        self._outgoing.clear()
        self._lost.set_result(None)
        for number in list(self._calls):
            self._end(number, "UNAVAILABLE", f"The connection was lost: {error or 'closed by the server'}")
        if not self.greeted.done():
            self.greeted.set_exception(error or ConnectionError("closed by the server"))

    def abort(self) -> None:
        """Cuts the connection."""
        self._transport.abort()

    async def close(self) -> None:
        """Ends the connection; calls under way fail."""
        self._transport.close()
        await asyncio.wait([self._lost], timeout=1.0)
        self._transport.abort()

    def _headers(self, path: str, metadata: Metadata, timeout: float | None) -> bytes:
        limit = [] if timeout is None else [(b"grpc-timeout", messages.timeout_text(timeout))]
        return _same_headers(path.encode(), self._scheme, self._authority) + hpack.encode([*limit, *metadata])

    def _sent(self, stream: Stream) -> None:
        if stream.cancelled:  # answered, or given up, before it was all there
            self._transport.write(frames.rst_stream(stream.number, frames.CANCEL))
        else:
            self._transport.write(frames.frame(frames.DATA, frames.END_STREAM, stream.number))

    def _answered(self, stream: Stream) -> None:
        try:
            body = result(stream, MAX_MESSAGE)
        except ServingError as error:
            self._end(stream.number, error.code.name, error.message, stream=stream)
        else:
            self._end(stream.number, "OK", body=body, stream=stream)

    def _late(self, number: int) -> None:
        self._give_up(number)
        self._end(number, "DEADLINE_EXCEEDED", "Deadline Exceeded")

    def _cancel(self, number: int) -> None:
        if number in self._calls:
            self._give_up(number)
            self._forget(number)

    def _give_up(self, number: int) -> None:
        stream = self._calls[number].stream
        stream.cancelled = True
        self._books.forget(stream)
        self._transport.write(frames.rst_stream(number, frames.CANCEL))

    def _drain(self) -> None:
        refused = [number for number in self._calls if number > self._reader.last_taken]
        for number in refused:
            self._end(number, "UNAVAILABLE", "The server takes no more calls on this connection")
        if not self._calls:
            self._transport.close()

    def _end(
        self, number: int, code: str, details: str = "", body: bytes = b"", stream: Stream | None = None
    ) -> None:
        call = self._forget(number)
        if call is not None:
            metadata = trailers(stream) if stream is not None else ()
            call.done(Reply(code, body, details, metadata, time.monotonic() - call.began))

    def _forget(self, number: int) -> _Waiting | None:
        call = self._calls.pop(number, None)
        if call is not None and call.timer is not None:
            call.timer.cancel()
        if self._reader.draining and not self._calls:
            self._transport.close()
        return call


@dataclass(slots=True)
class _Waiting:
    """A call without an answer yet."""

    stream: Stream
    done: Done
    timer: asyncio.TimerHandle | None
    began: float


@cache
def _same_headers(path: bytes, scheme: bytes, authority: bytes) -> bytes:
    """What stands at the head of all calls of a method. All are of small closed sets."""
    return hpack.encode(
        [
            (b":method", b"POST"),
            (b":scheme", scheme),
            (b":path", path),
            (b":authority", authority),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", b"steady-ranker-gateway"),
        ]
    )


def tune(transport: asyncio.Transport, user_timeout_ms: int) -> None:
    """Has the kernel send at once, and notice a peer that went away without a word."""
    sock: socket.socket = transport.get_extra_info("socket")
    if sock.family != socket.AF_UNIX:
        # asyncio does so itself only for sockets that were made with the protocol's number, which accepted ones are not.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, user_timeout_ms)
