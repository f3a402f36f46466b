"""A small HTTP/1.1 server on threads: requests in, one handler, responses out.

Only what the REST API needs: keep-alive, bodies by length or in chunks, gzip'd bodies, limits. The
standard library's server spends more time parsing headers than a Predict takes.
"""

from __future__ import annotations

import logging
import socket
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, cast

_LOG = logging.getLogger(__name__)
_MAX_HEADER_BYTES = 64 * 1024
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    413: "Payload Too Large",
    500: "Internal Server Error",
}


@dataclass(frozen=True)
class Request:
    """One HTTP request; header names are in lower case, the path has no query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """One HTTP response."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


class _BadRequestError(Exception):
    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


class HttpServer:
    """Listens from construction until `stop`."""

    def __init__(
        self,
        host: str,
        port: int,
        handler: Callable[[Request], Response],
        max_body_bytes: int = 2**31 - 1,
        max_connections: int = 512,
        idle_seconds: float = 120.0,
    ):
        """Binds and starts accepting.

        Raises:
            OSError: the address is taken.
        """
        self._handler = handler
        self._max_body = max_body_bytes
        self._idle = idle_seconds
        self._slots = threading.BoundedSemaphore(max_connections)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=128)
        self.port: int = self._socket.getsockname()[1]
        self._lock = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._busy = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._accept, name="http-accept", daemon=True)
        self._thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Stops accepting, waits for requests being answered, closes every connection."""
        self._stopping = True
        # A blocked accept() only returns once the socket is shut down, not when it is closed.
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            _LOG.debug("the listening socket was already down")
        self._thread.join()
        self._socket.close()
        with self._lock:
            self._lock.wait_for(lambda: self._busy == 0, grace_seconds)
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
            self._lock.wait_for(lambda: not self._connections, 5)

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if not self._slots.acquire(blocking=False):
                connection.close()
                continue
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="http", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(self._idle)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with cast(BinaryIO, connection.makefile("rb", 65536)) as stream:
                while not self._stopping:
                    try:
                        request = self._read(connection, stream)
                    except _BadRequestError as error:
                        _send(connection, Response(error.status, str(error).encode()), close=True)
                        return
                    if request is None:
                        return
                    with self._lock:
                        self._busy += 1
                    try:
                        response = self._handler(request)
                        close = request.headers.get("connection", "").lower() == "close" or self._stopping
                        _send(connection, response, close, request.method == "HEAD")
                    finally:
                        with self._lock:
                            self._busy -= 1
                            self._lock.notify_all()
                    if close:
                        return
        except OSError as error:
            _LOG.debug("connection closed: %s", error)
        finally:
            connection.close()
            with self._lock:
                self._connections.discard(connection)
                self._lock.notify_all()
            self._slots.release()

    def _read(self, connection: socket.socket, stream: BinaryIO) -> Request | None:
        line = stream.readline(_MAX_HEADER_BYTES)
        if not line:
            return None
        words = line.decode("latin-1").split()
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise _BadRequestError(400, "malformed request line")
        headers: dict[str, str] = {}
        size = len(line)
        while (line := stream.readline(_MAX_HEADER_BYTES)) not in (b"\r\n", b"\n"):
            size += len(line)
            name, separator, value = line.decode("latin-1").partition(":")
            if not separator or not line.endswith(b"\n") or size > _MAX_HEADER_BYTES:
                raise _BadRequestError(400, "malformed or oversized header")
            headers[name.strip().lower()] = value.strip()
        if words[2] == "HTTP/1.0":
            headers.setdefault("connection", "close")
        if headers.get("expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._body(stream, headers)
        if headers.get("content-encoding", "").lower() == "gzip":
            body = self._inflate(body)
        return Request(words[0].upper(), words[1].partition("?")[0], headers, body)

    def _body(self, stream: BinaryIO, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            chunks: list[bytes] = []
            total = 0
            while True:
                size = _number(stream.readline(64).split(b";")[0].strip(), 16)
                total += size
                if total > self._max_body:
                    raise _BadRequestError(413, "body too large")
                chunk = stream.read(size + 2)
                if len(chunk) != size + 2:
                    raise _BadRequestError(400, "body cut short")
                if size == 0:
                    return b"".join(chunks)
                chunks.append(chunk[:-2])
        size = _number(headers.get("content-length", "0").encode(), 10)
        if size > self._max_body:
            raise _BadRequestError(413, "body too large")
        body = stream.read(size)
        if len(body) != size:
            raise _BadRequestError(400, "body cut short")
        return body

    def _inflate(self, body: bytes) -> bytes:
        inflater = zlib.decompressobj(wbits=31)
        try:
            plain = inflater.decompress(body, self._max_body)
        except zlib.error:
            raise _BadRequestError(400, "the gzip body is damaged") from None
        if inflater.unconsumed_tail:
            raise _BadRequestError(413, "body too large")
        return plain


def _number(text: bytes, base: int) -> int:
    try:
        value = int(text, base)
    except ValueError:
        value = -1
    if value < 0:
        raise _BadRequestError(400, "malformed length")
    return value


def _send(connection: socket.socket, response: Response, close: bool, head_only: bool = False) -> None:
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    lines += [f"Content-Length: {len(response.body)}", f"Connection: {'close' if close else 'keep-alive'}"]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    connection.sendall(head if head_only else head + response.body)
