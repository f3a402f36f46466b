"""Listening sockets, the connections made to them, and the drain."""

from __future__ import annotations

import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from serving.server.http2.connection import Connection, Service
from serving.server.http2.loop import Loop
from serving.server.http2.workers import Workers
from serving.status import ServingError, invalid

_LOG = logging.getLogger(__name__)
_MAX_CONNECTIONS = 1024
_USER_TIMEOUT_MS = 60_000
_STOP_SECONDS = 1.0


class Http2Server:
    """Serves gRPC from construction until `stop`."""

    def __init__(self, addresses: list[str], service: Service):
        """Binds and starts accepting.

        Args:
            addresses: `host:port` (port 0 for a free one) or `unix:path`.
            service: the methods.

        Raises:
            ServingError: INVALID_ARGUMENT if an address can't be bound.
        """
        self._service = service
        self._connections: set[Connection] = set()
        self._listeners: list[socket.socket] = []
        try:
            for address in addresses:
                self._listeners.append(_listen(address))
        except ServingError:
            for listener in self._listeners:
                listener.close()
            raise
        self.ports = [
            listener.getsockname()[1] if listener.family != socket.AF_UNIX else 1
            for listener in self._listeners
        ]
        self._workers = Workers()
        self._loop = Loop(self._sweep)
        self._listen_all()
        self._loop.start()

    def stop(self, grace_seconds: float) -> None:
        """Refuses new calls, waits for running ones, then cuts every connection."""
        limit = time.monotonic() + grace_seconds
        self._on_loop(self._drain)
        while any(connection.busy() for connection in list(self._connections)) and time.monotonic() < limit:
            time.sleep(0.005)
        self._on_loop(self._cut)
        self._loop.stop()

    def _on_loop(self, job: Callable[[], None]) -> None:
        done = threading.Event()
        self._loop.call(job)
        self._loop.call(done.set)
        done.wait(_STOP_SECONDS)

    # On the loop's thread

    def _listen_all(self) -> None:
        for listener in self._listeners:
            self._loop.watch(listener, partial(self._accept, listener))

    def _accept(self, listener: socket.socket, _: int) -> None:
        try:
            accepted, _address = listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # no more file descriptors, most likely: the next sweep tries again
            _LOG.error("cannot accept a connection: %s", error.strerror)
            self._loop.forget(listener)
            return
        if len(self._connections) >= _MAX_CONNECTIONS:
            accepted.close()
            return
        if accepted.family != socket.AF_UNIX:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
        connection = Connection(accepted, self._service, self._loop, self._workers, self._connections.discard)
        self._connections.add(connection)
        connection.start()

    def _sweep(self) -> None:
        self._listen_all()
        now = time.monotonic()
        for connection in list(self._connections):
            connection.sweep(now)

    def _drain(self) -> None:
        for listener in self._listeners:
            path = listener.getsockname() if listener.family == socket.AF_UNIX else None
            self._loop.forget(listener)
            listener.close()
            if path:
                Path(path).unlink(missing_ok=True)
        self._listeners.clear()
        for connection in self._connections:
            connection.drain()

    def _cut(self) -> None:
        for connection in list(self._connections):
            connection.close()


def _listen(address: str) -> socket.socket:
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        # A socket left behind by a server that was killed keeps the next one from binding.
        if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(path)
        except OSError as error:
            listener.close()
            raise invalid(f"Failed to listen on {address}: {error.strerror}") from None
        listener.listen(128)
        listener.setblocking(False)
        return listener
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, int(port)), family=family, backlog=128)
    except OSError as error:
        raise invalid(f"Failed to listen on {address}: {error.strerror}") from None
    listener.setblocking(False)
    return listener
