"""As much of HTTP/2 as a caller needs who breaks its rules: a socket, and a request's frames."""

from __future__ import annotations

import socket
import struct

HEADERS, SETTINGS, RST_STREAM, PING, WINDOW_UPDATE = 1, 4, 3, 6, 8
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def text(value: bytes) -> bytes:
    """A string of fewer than 127 bytes, not Huffman-coded."""
    return bytes([len(value)]) + value


def request_headers(path: str, **fields: str) -> bytes:
    """A header block of literals that enter no table."""
    pairs = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "t"}
    pairs |= {"content-type": "application/grpc", "te": "trailers"}
    pairs |= {name.replace("_", "-"): value for name, value in fields.items()}
    return b"".join(b"\0" + text(name.encode()) + text(value.encode()) for name, value in pairs.items())


def headers(stream: int, path: str = PREDICT, **fields: str) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, request_headers(path, **fields))


def data(stream: int, message: bytes, flags: int = END_STREAM) -> bytes:
    return frame(0, flags, stream, b"\0" + struct.pack(">I", len(message)) + message)


def connect(port: int, *frames: bytes) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port), 30)
    peer.sendall(PREFACE + frame(SETTINGS, 0, 0) + b"".join(frames))
    return peer
