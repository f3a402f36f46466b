"""The server's side of a connection: bytes to complete requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Container

from serving.http2 import frames, hpack, messages
from serving.http2.books import MAX_STREAMS, Books
from serving.http2.frames import ProtocolError
from serving.http2.reader import Reader
from serving.http2.stream import Stream
from serving.status import Code, ServingError


class RequestReader(Reader):
    """Gives each request that a client has sent."""

    def __init__(
        self,
        books: Books,
        send: Callable[[bytes], object],
        known_paths: Container[str],
        max_message_bytes: int,
        on_reset: Callable[[Stream], None] = lambda stream: None,
    ):
        """Waits for the client's greeting.

        Args:
            books: the connection's.
            send: writes bytes to the client.
            known_paths: methods; calls of others are answered with UNIMPLEMENTED here.
            max_message_bytes: largest request.
            on_reset: told of calls that the client gave up.
        """
        super().__init__(books, send, max_message_bytes)
        self._known_paths = known_paths
        self._told_of_reset = on_reset
        self.draining = False

    def _greet(self, data: bytes) -> int:
        if not frames.PREFACE.startswith(data[: len(frames.PREFACE)]):
            raise ProtocolError(frames.PROTOCOL_ERROR, "not HTTP/2")
        if len(data) < len(frames.PREFACE):
            return 0
        self.greeted = True
        self._send(self._hello((frames.MAX_CONCURRENT_STREAMS, MAX_STREAMS)))
        return len(frames.PREFACE)

    def _on_header_list(self, number: int, ends: bool, headers: list[hpack.Header]) -> Stream | None:
        if number <= self.last_stream:  # trailers of a request; gRPC has none
            known = self._books.arriving(number)
            return self._complete(known) if known is not None and ends else None
        self.last_stream = number
        metadata = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        timeout = messages.timeout_seconds(metadata.get("grpc-timeout", ""))
        deadline = None if timeout is None else time.monotonic() + timeout
        stream = Stream(number, metadata.get(":path", ""), metadata, deadline, headers)
        is_post = metadata.get(":method") == "POST"
        if not is_post or not metadata.get("content-type", "").startswith("application/grpc"):
            answer = hpack.encode([(b":status", b"415" if is_post else b"405")])
            self._send(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, number, answer))
        elif self.draining or not self._books.open(stream):
            self._send(frames.rst_stream(number, frames.REFUSED_STREAM))
        elif stream.path not in self._known_paths:
            return self._refuse(stream, ServingError(Code.UNIMPLEMENTED, "Method not found!"))
        elif ends:
            return self._complete(stream)
        return None

    def _on_reset(self, number: int, payload: bytes) -> Stream | None:
        stream = self._books.reset(number)
        if stream is not None:
            self._told_of_reset(stream)
        return None

    def _on_goaway(self, payload: bytes) -> None:
        """A client that makes no more calls asks for nothing."""

    def _refuse(self, stream: Stream, error: ServingError) -> Stream | None:
        self._books.forget(stream)
        self._send(messages.refusal(stream.number, error))
        return None
