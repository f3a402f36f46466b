"""One connection to one replica: gRPC calls, bytes both ways, on the event loop.

A hop through the asyncio of `grpcio` costs more than a millisecond; this one costs half of that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from serving.client.connection import MAX_MESSAGE
from serving.gateway.protocol import Http2Protocol
from serving.http2 import frames, hpack, messages
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


class Connection(Http2Protocol):
    """Calls over one connection, from the server's greeting to its end.

    Args:
      scheme: `http` or `https`.
      authority: whom the calls are for.

    Attributes:
      greeted: done once the server has spoken; fails if it goes before.
    """

    def __init__(self, scheme: str, authority: str) -> None:
        super().__init__(_USER_TIMEOUT_MS)
        self._scheme, self._authority = scheme.encode(), authority.encode()
        self._calls: dict[int, _Waiting] = {}
        # A listening kernel accepts for a process that hangs: only the server's first frame says that it is there.
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def takes_calls(self) -> bool:
        """Whether new calls may be sent."""
        return not self._lost.done() and not self._reader.draining

    @property
    def _reader(self) -> ResponseReader:
        return self._responses

    def _greet(self, send: Callable[[bytes], object]) -> None:
        self._responses = ResponseReader(self._books, send, MAX_MESSAGE)

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
        """Takes answers."""
        super().data_received(data)
        if self._reader.greeted and not self.greeted.done():
            self.greeted.set_result(None)
        if self._reader.draining:
            self._drain()

    def connection_lost(self, error: Exception | None) -> None:
        """Fails the calls under way."""
        super().connection_lost(error)
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

    def _take(self, stream: Stream) -> None:
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
            try:
                call.done(Reply(code, body, details, metadata, time.monotonic() - call.began))
            except Exception:  # noqa: BLE001 - one call's mistake must not end all others of the connection
                _LOG.exception("a reply could not be taken")

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
