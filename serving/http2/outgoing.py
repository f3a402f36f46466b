"""Messages that the peer's windows or the socket hold back."""

from __future__ import annotations

import time
from collections.abc import Callable

from serving.http2 import frames
from serving.http2.books import Books
from serving.http2.stream import Stream


class Outgoing:
    """Writes messages piece by piece. All methods belong to the connection's one thread."""

    def __init__(self, books: Books, send: Callable[[bytes], object], has_room: Callable[[], bool]):
        """Nothing waits yet.

        Args:
            books: the connection's.
            send: writes bytes to the peer.
            has_room: whether all that was sent before is written.
        """
        self._books = books
        self._send = send
        self._has_room = has_room
        self._held: dict[int, Stream] = {}

    def hold(self, stream: Stream, data: bytes, sent: Callable[[], None]) -> None:
        """Has `data` written as the peer's windows allow, and `sent` called then, or when the call is cancelled."""
        stream.rest += data
        stream.sent = sent
        stream.moved = time.monotonic()
        self._held[stream.number] = stream
        self.pump()

    def pump(self) -> None:
        """Writes of each message what the windows and the socket take."""
        for stream in list(self._held.values()):
            while stream.rest and not stream.cancelled and self._has_room():
                size = self._books.take(stream, len(stream.rest))
                if not size:
                    break
                self._send(frames.frame(frames.DATA, 0, stream.number, bytes(stream.rest[:size])))
                del stream.rest[:size]
                stream.moved = time.monotonic()
            if stream.cancelled or not stream.rest:
                del self._held[stream.number]
                if stream.sent is not None:
                    stream.sent()

    def give_up(self, moved_before: float) -> list[Stream]:
        """Forgets messages of which the peer has taken nothing since then; gives their streams."""
        stalled = [stream for stream in self._held.values() if stream.moved < moved_before]
        for stream in stalled:
            del self._held[stream.number]
        return stalled

    def clear(self) -> None:
        """Forgets everything: the connection is over."""
        self._held.clear()

    def __bool__(self) -> bool:
        return bool(self._held)
