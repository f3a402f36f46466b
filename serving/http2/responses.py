"""The client's side of a connection: calls to bytes, bytes to complete answers."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, unquote

from serving.http2 import frames, hpack, messages
from serving.http2.books import Books
from serving.http2.frames import ProtocolError
from serving.http2.reader import Reader
from serving.http2.stream import Stream
from serving.status import Code, ServingError

_LAST_NUMBER = 2**31 - 1
_OF_HTTP = {
    "400": Code.INTERNAL,
    "401": Code.UNAUTHENTICATED,
    "403": Code.PERMISSION_DENIED,
    "404": Code.UNIMPLEMENTED,
    "429": Code.UNAVAILABLE,
    "502": Code.UNAVAILABLE,
    "503": Code.UNAVAILABLE,
    "504": Code.UNAVAILABLE,
}
_OF_RESET = {
    frames.REFUSED_STREAM: Code.UNAVAILABLE,
    frames.CANCEL: Code.CANCELLED,
    frames.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
}
_CODES = {str(int(code)): code for code in Code}
_NOT_METADATA = frozenset(
    {b":status", b"content-type", b"grpc-status", b"grpc-message", b"grpc-encoding", b"grpc-accept-encoding"}
)


class ResponseReader(Reader):
    """Opens calls and gives each as its answer is complete; `result` says what it is.

    Attributes:
        draining: the server wants no more calls on this connection, or there are no more numbers.
        last_taken: calls of higher numbers the server will not answer.
    """

    def __init__(self, books: Books, send: Callable[[bytes], object], max_message_bytes: int):
        """Greets the server.

        Args:
            books: the connection's.
            send: writes bytes to the server.
            max_message_bytes: largest answer.
        """
        super().__init__(books, send, max_message_bytes)
        self.draining = False
        self.last_taken = _LAST_NUMBER
        send(frames.PREFACE + self._hello((frames.ENABLE_PUSH, 0)))

    def open(self, path: str) -> Stream | None:
        """A stream for a new call; None if this connection takes no more."""
        number = self.last_stream + 2 if self.last_stream else 1
        stream = Stream(number, path, {}, None)
        if number > _LAST_NUMBER:
            self.draining = True
        if self.draining or not self._books.open(stream):
            return None
        self.last_stream = number
        return stream

    def _greet(self, data: bytes) -> int:
        if len(data) >= frames.HEADER_BYTES:
            if frames.parse_header(data, 0)[1] != frames.SETTINGS:
                raise ProtocolError(frames.PROTOCOL_ERROR, "not HTTP/2")
            self.greeted = True
        return 0

    def _on_header_list(self, number: int, ends: bool, headers: list[hpack.Header]) -> Stream | None:
        stream = self._books.arriving(number)
        if stream is None:
            if number > self.last_stream:
                raise ProtocolError(frames.PROTOCOL_ERROR, "HEADERS on a stream that was never opened")
            return None  # an answer that nobody waits for any more
        for name, value in headers:
            stream.metadata[name.decode("latin-1")] = value.decode("latin-1")
        stream.headers = headers
        return self._complete(stream) if ends else None

    def _on_reset(self, number: int, payload: bytes) -> Stream | None:
        stream = self._books.arriving(number)
        if stream is None:
            return None
        code = _OF_RESET.get(int.from_bytes(payload, "big"), Code.INTERNAL)
        return self._fail(stream, ServingError(code, "The server reset the call"))

    def _on_goaway(self, payload: bytes) -> None:
        self.draining = True
        self.last_taken = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF

    def _refuse(self, stream: Stream, error: ServingError) -> Stream | None:
        self._send(frames.rst_stream(stream.number, frames.CANCEL))
        return self._fail(stream, error)

    def _fail(self, stream: Stream, error: ServingError) -> Stream:
        stream.metadata |= {"grpc-status": str(int(error.code)), "grpc-message": quote(error.message)}
        stream.headers = []
        return self._complete(stream)

    def _complete(self, stream: Stream) -> Stream:
        self._books.forget(stream)
        stream.cancelled = True  # what is left of the request is of no use
        return stream


def result(stream: Stream, max_message_bytes: int) -> bytes:
    """The message of a complete answer.

    Raises:
        ServingError: the call failed: the server's status, or what is wrong with the answer.
    """
    status = stream.metadata.get("grpc-status", "")
    if not status:
        http = stream.metadata.get(":status", "")
        code = Code.INTERNAL if http == "200" else _OF_HTTP.get(http, Code.UNKNOWN)
        raise ServingError(code, f"The answer has no gRPC status; its HTTP status is {http or 'missing'}")
    code = _CODES.get(status, Code.UNKNOWN)
    if code != Code.OK:
        raise ServingError(code, unquote(stream.metadata.get("grpc-message", "")))
    return messages.unpack(bytes(stream.body), stream.metadata.get("grpc-encoding", ""), max_message_bytes)


def trailers(stream: Stream) -> list[hpack.Header]:
    """The metadata that came with the status."""
    return [header for header in stream.headers if header[0] not in _NOT_METADATA]
