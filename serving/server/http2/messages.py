"""gRPC on top of HTTP/2: timeouts, length-prefixed messages, status trailers.

Source: the gRPC over HTTP/2 protocol description.
"""

from __future__ import annotations

import struct
import zlib

from serving.server.http2 import frames, hpack
from serving.server.status import Code, ServingError

PREFIX_BYTES = 5
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_CONTENT_TYPE = (b"content-type", b"application/grpc")
RESPONSE_HEADERS = hpack.encode([(b":status", b"200"), _CONTENT_TYPE])
OK_TRAILERS = hpack.encode([(b"grpc-status", b"0")])
_UNRESERVED = set(range(0x20, 0x7F)) - {ord("%")}


def timeout_seconds(text: str) -> float | None:
    """Seconds of a `grpc-timeout` header; None if it has none or is malformed.

    >>> timeout_seconds("100m"), timeout_seconds("2S"), timeout_seconds("x")
    (0.1, 2.0, None)
    """
    if len(text) < 2 or text[-1] not in _UNITS or not text[:-1].isdigit() or len(text) > 9:
        return None
    return int(text[:-1]) * _UNITS[text[-1]]


def pack(message: bytes) -> bytes:
    """A message with its prefix: not compressed, length."""
    return struct.pack(">BI", 0, len(message)) + message


def message_length(prefix: bytes | bytearray) -> int:
    """Length announced by a prefix of five bytes."""
    return int.from_bytes(prefix[1:5], "big")


def unpack(data: bytes, encoding: str, limit: int) -> bytes:
    """The one message of a unary request.

    Args:
        data: prefix and message.
        encoding: `grpc-encoding` of the request; "" for identity.
        limit: most bytes after decompression.

    Raises:
        ServingError: INTERNAL if the bytes are not exactly one message, UNIMPLEMENTED for an unknown
            encoding, RESOURCE_EXHAUSTED if it is larger than `limit`.
    """
    if len(data) < PREFIX_BYTES or message_length(data) != len(data) - PREFIX_BYTES or data[0] > 1:
        raise ServingError(Code.INTERNAL, "The request is not one length-prefixed message")
    if data[0] == 0:
        return data[PREFIX_BYTES:]
    bits = {"gzip": 31, "deflate": 15}.get(encoding)
    if bits is None:
        raise ServingError(Code.UNIMPLEMENTED, f"Compression {encoding or 'identity'} is not supported")
    inflater = zlib.decompressobj(wbits=bits)
    try:
        message = inflater.decompress(data[PREFIX_BYTES:], limit)
    except zlib.error:
        raise ServingError(Code.INTERNAL, "The compressed message is damaged") from None
    if inflater.unconsumed_tail:
        raise too_large(limit + 1, limit)
    return message


def too_large(size: int, limit: int) -> ServingError:
    """The error of a message above the limit, as gRPC words it."""
    return ServingError(
        Code.RESOURCE_EXHAUSTED, f"SERVER: Received message larger than max ({size} vs. {limit})"
    )


def error_trailers(error: ServingError) -> bytes:
    """The header block of an answer that is only a status."""
    text = "".join(
        chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in error.wire_message.encode("utf-8")
    )
    return hpack.encode(
        [
            (b":status", b"200"),
            _CONTENT_TYPE,
            (b"grpc-status", str(int(error.code)).encode()),
            (b"grpc-message", text.encode()),
        ]
    )


def unary_answer(stream: int, message: bytes) -> bytes:
    """All frames of a short answer at once."""
    return b"".join(
        (
            frames.frame(frames.HEADERS, frames.END_HEADERS, stream, RESPONSE_HEADERS),
            frames.frame(frames.DATA, 0, stream, pack(message)),
            frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, OK_TRAILERS),
        )
    )


def refusal(stream: int, error: ServingError) -> bytes:
    """The frame of an answer that is only a status."""
    return frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, error_trailers(error))


def opening(stream: int) -> bytes:
    """The first frame of an answer sent piece by piece."""
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream, RESPONSE_HEADERS)


def ending(stream: int) -> bytes:
    """The last frame of an answer sent piece by piece."""
    return frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, OK_TRAILERS)
