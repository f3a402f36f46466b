"""Listening sockets, the connections made to them, and the drain."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
import time
from pathlib import Path

from serving.server.http2.connection import Connection, Service
from serving.server.status import ServingError, invalid

_MAX_CONNECTIONS = 1024
_USER_TIMEOUT_MS = 60_000


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
        self._lock = threading.Condition()
        self._stopping = False
        self._sockets: list[socket.socket] = []
        try:
            for address in addresses:
                self._sockets.append(_listen(address))
        except ServingError:
            for listener in self._sockets:
                listener.close()
            raise
        self.ports = [
            listener.getsockname()[1] if listener.family != socket.AF_UNIX else 1
            for listener in self._sockets
        ]
        self._threads = [
            threading.Thread(target=self._accept, args=(listener,), name="grpc-accept", daemon=True)
            for listener in self._sockets
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Refuses new calls, waits for running ones, then cuts every connection."""
        self._stopping = True
        for listener in self._sockets:
            path = listener.getsockname() if listener.family == socket.AF_UNIX else None
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            if path:
                Path(path).unlink(missing_ok=True)
        for thread in self._threads:
            thread.join()
        connections = self._snapshot()
        for connection in connections:
            connection.drain()
        limit = time.monotonic() + grace_seconds
        while any(connection.busy() for connection in self._snapshot()) and time.monotonic() < limit:
            time.sleep(0.005)
        for connection in self._snapshot():
            connection.close()
        with self._lock:
            self._lock.wait_for(lambda: not self._connections, 1)

    def _snapshot(self) -> list[Connection]:
        with self._lock:
            return list(self._connections)

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            if len(self._connections) >= _MAX_CONNECTIONS:
                accepted.close()
                continue
            if accepted.family != socket.AF_UNIX:
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
            connection = Connection(accepted, self._service, self._gone)
            with self._lock:
                self._connections.add(connection)
            connection.start()

    def _gone(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)
            self._lock.notify_all()


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
        return listener
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=128)
    except OSError as error:
        raise invalid(f"Failed to listen on {address}: {error.strerror}") from None
