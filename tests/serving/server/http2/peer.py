"""The other side of an HTTP/2 connection: methods to call, and a socket that speaks as much as a test wants."""

from __future__ import annotations

import socket
import time

from serving.http2 import frames, hpack, messages
from serving.status import Code, ServingError

ECHO, FAIL, SLOW, STREAM = "/t.T/Echo", "/t.T/Fail", "/t.T/Slow", "/t.T/Stream"
LARGEST = 8 * 2**20
"""Bytes of the largest message that the server of these tests takes."""


class Nothing:
    """A run of a given kind that gives nothing."""

    def __init__(self, quick=True, now=lambda: []):
        self.is_quick = lambda: quick
        self.now = now

    def later(self, done):
        return False


def echo(request, call):
    return request


def echo_steps(request, call):
    yield Nothing()
    return request


def fail(request, call):
    raise ServingError(Code.DATA_LOSS, "100% b\u00e4d\nluck")


def slow(request, call):
    time.sleep(0.2)
    return call.metadata.get("x-name", "").encode()


def stream(request, wanted):
    for index in range(3):
        yield request + str(index).encode()


class Raw:
    """A socket that speaks just as much HTTP/2 as a test wants."""

    def __init__(self, server, greet=True):
        self.socket = socket.create_connection(("127.0.0.1", server.ports[0]), 10)
        self.buffer = b""
        if greet:
            self.socket.sendall(frames.PREFACE + frames.settings([]))

    def send(self, *parts):
        self.socket.sendall(b"".join(parts))

    def frame(self):
        """The next frame as (kind, flags, stream, payload); None at the end."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + frames.parse_header(self.buffer, 0)[0]:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self.buffer += data
        length, kind, flags, number = frames.parse_header(self.buffer, 0)
        payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
        return kind, flags, number, payload

    def until(self, kind, number=None):
        while (got := self.frame()) is not None:
            if got[0] == kind and number in (None, got[2]):
                return got
        return None

    def close(self):
        self.socket.close()


def request_headers(path=ECHO, **extra):
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"t")]
    fields += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    return hpack.encode(fields + [(k.encode().replace(b"_", b"-"), v) for k, v in extra.items()])


def call_frames(number, message, path=ECHO, **extra):
    return frames.frame(
        frames.HEADERS, frames.END_HEADERS, number, request_headers(path, **extra)
    ) + frames.frame(frames.DATA, frames.END_STREAM, number, messages.pack(message))
