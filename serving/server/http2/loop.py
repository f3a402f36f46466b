"""One thread that waits for every socket of a server at once."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

_LOG = logging.getLogger(__name__)
_SWEEP_SECONDS = 1.0
_STOP_SECONDS = 5.0

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
BUGS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a mistake in the code that is called raises."""

Ready = Callable[[int], None]
"""Called on the loop's thread with READ, WRITE or both."""


class Loop:
    """Calls back when sockets are ready, when others ask it to, and once a second.

    Everything but `call` and `stop` belongs to the loop's own thread, or to the time before `start`.
    """

    def __init__(self, sweep: Callable[[], None]):
        """Prepares; nothing runs yet.

        Args:
            sweep: called about once a second, for what has waited too long.
        """
        self._sweep = sweep
        self._selector = selectors.DefaultSelector()
        self._jobs: deque[Callable[[], None]] = deque()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._selector.register(self._ear, READ, lambda _: self._ear.recv(4096))
        self._rung = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="grpc-loop", daemon=True)

    def start(self) -> None:
        """Begins to wait."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop and its thread; the sockets stay as they are."""
        self._stopping = True
        self._ring()
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():  # in a call that does not end; it dies with the process
            return
        self._selector.close()
        self._bell.close()
        self._ear.close()

    def call(self, job: Callable[[], None]) -> None:
        """Runs `job` on the loop's thread soon. Any thread may ask."""
        self._jobs.append(job)
        if not self._rung:
            self._ring()

    def watch(self, sock: socket.socket, ready: Ready, events: int = READ) -> None:
        """Calls `ready` whenever the socket is, until `forget`; a second call changes the events."""
        try:
            self._selector.modify(sock, events, ready)
        except KeyError:
            self._selector.register(sock, events, ready)

    def forget(self, sock: socket.socket) -> None:
        """Waits for this socket no longer; to be called before it is closed."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def _ring(self) -> None:
        self._rung = True
        with contextlib.suppress(OSError):  # a full pipe rings too
            self._bell.send(b"\0")

    def _run(self) -> None:
        due = time.monotonic() + _SWEEP_SECONDS
        while not self._stopping:
            for key, events in self._selector.select(_SWEEP_SECONDS):
                self._guard(key.data, events)
            self._rung = False  # before the last look: who comes after it rings
            while self._jobs:
                self._guard(self._jobs.popleft())
            now = time.monotonic()
            if now >= due:
                due = now + _SWEEP_SECONDS
                self._guard(self._sweep)

    def _guard(self, job: Callable[..., object], *arguments: object) -> None:
        try:
            job(*arguments)
        except BUGS:
            # One connection's mistake must not end all the others.
            _LOG.exception("a callback failed")
