"""Sampled calls as bytes, for the pipe between the proxy and the mirror."""

from __future__ import annotations

import json
import struct
from asyncio import IncompleteReadError, StreamReader

from serving.gateway.compare import Sampled

_SIZES = struct.Struct("<III")


def encode(call: Sampled) -> list[bytes]:
    """Returns the pieces of one frame: sizes, header, request, answer."""
    header = json.dumps([call.request_id, call.time, call.replica, call.latency]).encode()
    return [
        _SIZES.pack(len(header), len(call.request), len(call.answer)) + header,
        call.request,
        call.answer,
    ]


async def read(stream: StreamReader) -> Sampled | None:
    """Returns the next call, or None at the end of the stream, a broken last frame included."""
    try:
        sizes = _SIZES.unpack(await stream.readexactly(_SIZES.size))
        header, request, answer = [await stream.readexactly(size) for size in sizes]
    except IncompleteReadError:
        return None
    identifier, started, replica, latency = json.loads(header)
    return Sampled(identifier, started, replica, latency, request, answer)
