"""The books of one connection: its calls, and how many bytes each side will still take.

Requests arrive on the loop's thread, answers leave from any; one lock keeps the books between them. No
method waits, and none does I/O.

Source: RFC 9113, sections 5 and 6.9 (flow control).
"""

from __future__ import annotations

import threading
import time
from collections import deque

from serving.http2 import frames, messages
from serving.http2.frames import ProtocolError
from serving.http2.stream import Stream

MAX_STREAMS = 1000
_MAX_WINDOW = 2**31 - 1
_MAX_RESETS_A_SECOND = 500
_MAX_PIECE = 256 * 1024


class Books:
    """Streams that arrive, streams being answered, and the peer's windows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arriving: dict[int, Stream] = {}
        self._running: dict[int, Stream] = {}
        self._window = 65535
        self._initial_window = 65535
        self._frame_bytes = 16384
        self._resets: deque[float] = deque()
        self._buffered = 0

    def busy(self) -> bool:
        """Whether a call is arriving or being answered."""
        with self._lock:
            return bool(self._arriving or self._running)

    def open(self, stream: Stream) -> bool:
        """Admits a new stream; False if there are too many."""
        with self._lock:
            if len(self._arriving) + len(self._running) >= MAX_STREAMS:
                return False
            stream.window = self._initial_window
            self._arriving[stream.number] = stream
            return True

    def arriving(self, number: int) -> Stream | None:
        """The stream of that number if its request is not complete."""
        return self._arriving.get(number)

    def append(self, stream: Stream, data: bytes) -> int:
        """Adds request bytes to a stream; gives the bytes buffered for all unfinished requests."""
        stream.body += data
        self._buffered += len(data)
        return self._buffered

    def complete(self, stream: Stream) -> None:
        """The request is all there."""
        with self._lock:
            self._drop(stream)
            self._running[stream.number] = stream

    def forget(self, stream: Stream) -> None:
        """The call is over, answered or not."""
        with self._lock:
            self._drop(stream)
            self._running.pop(stream.number, None)

    def settings(self, values: list[tuple[int, int]]) -> None:
        """Applies the peer's SETTINGS.

        Raises:
            ProtocolError: a value out of range.
        """
        with self._lock:
            for key, value in values:
                if key == frames.INITIAL_WINDOW_SIZE:
                    if value > _MAX_WINDOW:
                        raise ProtocolError(frames.FLOW_CONTROL_ERROR, "window too large")
                    for stream in (*self._arriving.values(), *self._running.values()):
                        stream.window += value - self._initial_window
                    self._initial_window = value
                elif key == frames.MAX_FRAME_SIZE:
                    if not 16384 <= value < 2**24:
                        raise ProtocolError(frames.PROTOCOL_ERROR, "frame size out of range")
                    self._frame_bytes = value

    def widen(self, number: int, increment: int) -> None:
        """Applies the peer's WINDOW_UPDATE.

        Raises:
            ProtocolError: the window leaves its range.
        """
        with self._lock:
            if number == 0:
                self._window += increment
                if increment == 0 or self._window > _MAX_WINDOW:
                    raise ProtocolError(frames.FLOW_CONTROL_ERROR, "window out of range")
            elif (stream := self._running.get(number) or self._arriving.get(number)) is not None:
                stream.window += increment

    def reset(self, number: int) -> Stream | None:
        """Applies the peer's RST_STREAM.

        Returns:
            The stream, if its call is not over.

        Raises:
            ProtocolError: too many in a second.
        """
        now = time.monotonic()
        self._resets.append(now)
        while self._resets[0] < now - 1:
            self._resets.popleft()
        if len(self._resets) > _MAX_RESETS_A_SECOND:
            raise ProtocolError(frames.ENHANCE_YOUR_CALM, "too many resets")
        with self._lock:
            stream = self._arriving.get(number)
            if stream is not None:
                self._drop(stream)
            else:
                stream = self._running.get(number)
            if stream is not None:
                stream.cancelled = True
            return stream

    def end(self) -> None:
        """The connection is over: nobody waits for any answer."""
        with self._lock:
            for stream in (*self._arriving.values(), *self._running.values()):
                stream.cancelled = True
            self._arriving.clear()

    def take_whole(self, stream: Stream, message: bytes) -> bool:
        """Reserves the windows for a whole message in one frame and closes the call; False if it does not fit."""
        size = len(message) + messages.PREFIX_BYTES
        with self._lock:
            if size > min(stream.window, self._window, self._frame_bytes, _MAX_PIECE):
                return False
            self._window -= size
            self._running.pop(stream.number, None)
            return True

    def take(self, stream: Stream, wanted: int) -> int:
        """Reserves the windows for a piece of a message: how many bytes, at most `wanted`; 0 if none now."""
        with self._lock:
            size = max(min(stream.window, self._window, self._frame_bytes, _MAX_PIECE, wanted), 0)
            stream.window -= size
            self._window -= size
            return size

    def _drop(self, stream: Stream) -> None:
        if self._arriving.pop(stream.number, None) is not None:
            self._buffered -= len(stream.body)
