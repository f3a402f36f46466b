"""Bytes of one connection to complete messages: what both sides of HTTP/2 have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from serving.http2 import frames, hpack, messages
from serving.http2.books import Books
from serving.http2.frames import ProtocolError
from serving.http2.stream import Stream
from serving.status import Code, ServingError

_WINDOW = 16 * 2**20
_FRAME_BYTES = 2**20
_REMEMBERED_BLOCKS = 64


class Reader(ABC):
    """Takes what arrives on one socket; what its headers mean is for the side to say."""

    def __init__(self, books: Books, send: Callable[[bytes], object], max_message_bytes: int):
        """Nothing is sent yet.

        Args:
            books: the connection's.
            send: writes bytes to the peer.
            max_message_bytes: largest message taken.
        """
        self._books = books
        self._send = send
        self._max_message_bytes = max_message_bytes
        self._rest = b""
        self._decoder = hpack.Decoder()
        self._remembered: dict[bytes, list[hpack.Header]] = {}
        self._generation = -1
        self._unacknowledged = 0
        self._header_block: tuple[int, int, bytearray] | None = None
        self.greeted = False
        self.last_stream = 0

    def feed(self, data: bytes) -> Iterator[Stream]:
        """Takes the next bytes; gives the stream of each message that they complete.

        Raises:
            ProtocolError: the peer broke the protocol.
        """
        if self._rest:
            data = self._rest + data
        position = 0
        if not self.greeted:
            position = self._greet(data)
            if not self.greeted:
                self._rest = data
                return
        size = len(data)
        while size - position >= frames.HEADER_BYTES:
            length, kind, flags, number = frames.parse_header(data, position)
            if length > _FRAME_BYTES:
                raise ProtocolError(frames.FRAME_SIZE_ERROR, "frame too large")
            start = position + frames.HEADER_BYTES
            if start + length > size:
                break
            position = start + length
            stream = self._on_frame(kind, flags, number, data[start:position])
            if stream is not None:
                yield stream
        self._rest = data[position:]

    @abstractmethod
    def _greet(self, data: bytes) -> int:
        """Sets `greeted` once the peer's first bytes are there; gives how many they are."""

    @abstractmethod
    def _on_header_list(self, number: int, ends: bool, headers: list[hpack.Header]) -> Stream | None:
        """Takes a stream's headers; gives the stream if they complete it."""

    @abstractmethod
    def _refuse(self, stream: Stream, error: ServingError) -> Stream | None:
        """Ends a stream whose message is not taken; gives it if somebody waits for the message."""

    @abstractmethod
    def _on_reset(self, number: int, payload: bytes) -> Stream | None:
        """Takes RST_STREAM; gives the stream if somebody waits for its message."""

    @abstractmethod
    def _on_goaway(self, payload: bytes) -> None:
        """Takes GOAWAY."""

    def _hello(self, *more: tuple[int, int]) -> bytes:
        """Our settings."""
        ours = [
            (frames.INITIAL_WINDOW_SIZE, _WINDOW),
            (frames.MAX_FRAME_SIZE, _FRAME_BYTES),
            (frames.MAX_HEADER_LIST_SIZE, hpack.MAX_LIST_BYTES),
        ]
        return frames.settings([*more, *ours]) + frames.window_update(0, _WINDOW - 65535)

    def _on_frame(self, kind: int, flags: int, number: int, payload: bytes) -> Stream | None:
        if self._header_block is not None and kind != frames.CONTINUATION:
            raise ProtocolError(frames.PROTOCOL_ERROR, "a header block was interrupted")
        if kind == frames.DATA:
            return self._on_data(number, flags, payload)
        if kind == frames.HEADERS:
            return self._on_headers(number, flags, payload)
        if kind == frames.CONTINUATION:
            return self._on_continuation(number, flags, payload)
        if kind == frames.RST_STREAM:
            return self._on_reset(number, payload)
        self._on_other(kind, flags, number, payload)
        return None

    def _on_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == frames.SETTINGS and not flags & frames.ACK:
            self._books.settings(frames.parse_settings(payload))
            self._send(frames.frame(frames.SETTINGS, frames.ACK, 0))
        elif kind == frames.WINDOW_UPDATE:
            if len(payload) != 4:
                raise ProtocolError(frames.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
            self._books.widen(number, int.from_bytes(payload, "big") & 0x7FFFFFFF)
        elif kind == frames.PING:
            if len(payload) != 8:
                raise ProtocolError(frames.FRAME_SIZE_ERROR, "PING of a wrong length")
            if not flags & frames.ACK:
                self._send(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.GOAWAY:
            self._on_goaway(payload)
        elif kind == frames.PUSH_PROMISE:
            raise ProtocolError(frames.PROTOCOL_ERROR, "nobody asked for a push")
        # PRIORITY and unknown kinds ask for nothing.

    def _on_headers(self, number: int, flags: int, payload: bytes) -> Stream | None:
        payload = frames.unpad(flags, payload)
        if flags & frames.HAS_PRIORITY:
            payload = payload[5:]
        if number % 2 == 0:  # clients' streams are odd, and a server's are pushes, which nobody asks for
            raise ProtocolError(frames.PROTOCOL_ERROR, "HEADERS on a stream that is no client's")
        if not flags & frames.END_HEADERS:
            self._header_block = (number, flags, bytearray(payload))
            return None
        return self._on_header_list(number, bool(flags & frames.END_STREAM), self._decode(payload))

    def _on_continuation(self, number: int, flags: int, payload: bytes) -> Stream | None:
        if self._header_block is None or self._header_block[0] != number:
            raise ProtocolError(frames.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        _, first_flags, block = self._header_block
        block += payload
        if len(block) > hpack.MAX_LIST_BYTES:
            raise ProtocolError(frames.ENHANCE_YOUR_CALM, "header block too large")
        if not flags & frames.END_HEADERS:
            return None
        self._header_block = None
        return self._on_header_list(number, bool(first_flags & frames.END_STREAM), self._decode(bytes(block)))

    def _decode(self, block: bytes) -> list[hpack.Header]:
        # Clients send the same few blocks again and again, as indices into a table that no longer changes.
        if (
            self._generation == self._decoder.generation
            and (known := self._remembered.get(block)) is not None
        ):
            return known
        try:
            headers = self._decoder.decode(block)
        except hpack.HpackError as error:
            raise ProtocolError(frames.COMPRESSION_ERROR, str(error)) from None
        if self._generation != self._decoder.generation or len(self._remembered) >= _REMEMBERED_BLOCKS:
            self._remembered.clear()
            self._generation = self._decoder.generation
        else:
            self._remembered[block] = headers
        return headers

    def _on_data(self, number: int, flags: int, payload: bytes) -> Stream | None:
        size = len(payload)
        self._unacknowledged += size
        if self._unacknowledged >= _WINDOW // 2:
            self._send(frames.window_update(0, self._unacknowledged))
            self._unacknowledged = 0
        stream = self._books.arriving(number)
        if stream is None:
            if number == 0 or number > self.last_stream:
                raise ProtocolError(frames.PROTOCOL_ERROR, "DATA on a stream that was never opened")
            return None  # what was on its way when the stream was refused or reset
        buffered = self._books.append(stream, frames.unpad(flags, payload))
        problem = self._problem(stream, buffered)
        if problem is not None:
            return self._refuse(stream, problem)
        if flags & frames.END_STREAM:
            return self._complete(stream)
        stream.unacknowledged += size
        if stream.unacknowledged >= _WINDOW // 2:
            self._send(frames.window_update(number, stream.unacknowledged))
            stream.unacknowledged = 0
        return None

    def _problem(self, stream: Stream, buffered: int) -> ServingError | None:
        if len(stream.body) >= messages.PREFIX_BYTES:
            announced = messages.message_length(stream.body)
            if announced > self._max_message_bytes:
                return messages.too_large(announced, self._max_message_bytes)
            if len(stream.body) > announced + messages.PREFIX_BYTES:
                return ServingError(Code.INTERNAL, "More than one message in a unary call")
        if buffered > 2 * max(self._max_message_bytes, _WINDOW):
            return ServingError(Code.RESOURCE_EXHAUSTED, "Too many unfinished requests on this connection")
        return None

    def _complete(self, stream: Stream) -> Stream:
        self._books.complete(stream)
        return stream
