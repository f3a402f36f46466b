"""What one connection still has to write, for writers on any thread."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable

_LOG = logging.getLogger(__name__)
_MOST_BYTES = 64 * 2**20


class Outbox:
    """Writes at once what the socket takes, and keeps the rest until it takes more."""

    def __init__(self, sock: socket.socket, on_full: Callable[[], None]):
        """Around a non-blocking socket.

        Args:
            sock: the socket.
            on_full: called when bytes are left over, so that somebody calls `flush` once it is writable.
        """
        self._socket = sock
        self._on_full = on_full
        self._lock = threading.Lock()
        self._rest = bytearray()
        self._closed = False

    @property
    def empty(self) -> bool:
        """Whether everything is written."""
        return not self._rest

    def send(self, data: bytes) -> None:
        """Writes `data` after all that was sent before it. Nothing happens once the connection is closed."""
        with self._lock:
            if self._closed:
                return
            waiting = bool(self._rest)
            sent = 0 if waiting else self._write(data)
            if sent == len(data):
                return
            self._rest += data[sent:]
            if len(self._rest) > _MOST_BYTES:  # a peer that asks and asks, and reads nothing
                self._end()
                return
        if not waiting:
            self._on_full()

    def flush(self) -> bool:
        """Writes what is left; False if there is still more."""
        with self._lock:
            if self._rest and not self._closed:
                del self._rest[: self._write(bytes(self._rest[: 2**20]))]
            return not self._rest

    def end(self) -> None:
        """Ends the connection for both sides; a reader sees its end."""
        with self._lock:
            self._end()

    def close(self) -> None:
        """Closes the socket."""
        with self._lock:
            self._end()
            self._socket.close()

    def _write(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            _LOG.debug("could not write: %s", error)
            self._end()
            return len(data)

    def _end(self) -> None:
        self._closed = True
        self._rest.clear()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
