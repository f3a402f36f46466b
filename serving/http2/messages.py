"""gRPC on top of HTTP/2: timeouts, length-prefixed messages, status trailers.

Source: the gRPC over HTTP/2 protocol description.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from serving.http2 import frames, hpack
from serving.status import Code, ServingError

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
    if len(text) < 2 or text[-1] not in _UNITS or not text[:-1].isdecimal() or len(text) > 9:
        return None
    return int(text[:-1]) * _UNITS[text[-1]]


def timeout_text(seconds: float) -> bytes:
    """A `grpc-timeout` header, rounded down; at most eight digits.

    >>> timeout_text(0.25), timeout_text(3600.0), timeout_text(0.0)
    (b'250000u', b'3600000m', b'1u')
    """
    for unit, scale in (("u", 1e6), ("m", 1e3)):
        if seconds * scale < 1e8:
            return b"%d%s" % (max(int(seconds * scale), 1), unit.encode())
    return b"%dS" % min(int(seconds), 99_999_999)


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


def status_only(code: int, text: str, more: Sequence[hpack.Header] = ()) -> bytes:
    """The header block of an answer that is only a status, `more` its metadata."""
    escaped = "".join(
        chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode("utf-8", "replace")
    )
    status = (b"grpc-status", str(int(code)).encode())
    return hpack.encode(
        [(b":status", b"200"), _CONTENT_TYPE, status, (b"grpc-message", escaped.encode()), *more]
    )


def unary_answer(stream: int, message: bytes, trailers: bytes = OK_TRAILERS) -> bytes:
    """All frames of a short answer at once."""
    return b"".join(
        (
            frames.frame(frames.HEADERS, frames.END_HEADERS, stream, RESPONSE_HEADERS),
            frames.frame(frames.DATA, 0, stream, pack(message)),
            ending(stream, trailers),
        )
    )


def refusal(stream: int, error: ServingError) -> bytes:
    """The frame of an answer that is only a status."""
    return ending(stream, status_only(error.code, error.wire_message))


def opening(stream: int) -> bytes:
    """The first frame of an answer sent piece by piece."""
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream, RESPONSE_HEADERS)


def ending(stream: int, trailers: bytes = OK_TRAILERS) -> bytes:
    """The last frame of an answer."""
    return frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, trailers)
