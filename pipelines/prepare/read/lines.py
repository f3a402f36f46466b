"""Whole lines from a byte range of a file, or from a stream that cannot be cut (compressed, UTF-16).

A line belongs to the range in which its first byte lies. Ranges of any size give the same lines at the same
places, which is what makes results independent of how the input was cut.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipelines.prepare.read.compression import Decompressed, codec_of
from pipelines.prepare.read.files import open_input
from pipelines.prepare.read.streams import Prepended, Readable, Transcode, is_line_safe

PIECE_BYTES = 4 << 20
"""Lines are handed on in pieces of about this size."""
MAX_LINE_BYTES = 1 << 20
"""A longer line is no row."""
TOO_LONG = f"longer than {MAX_LINE_BYTES:,} bytes"
_KEPT_BYTES = 4096


@dataclass(frozen=True)
class Lines:
    r"""Consecutive whole lines.

    Attributes:
        data: the lines, each ended by `\n` (a last line without one got it).
        place: of the first byte, in the decompressed file.
        line: how many lines of the range come before these.
        count: how many these are.
        fault: why this piece, a single and perhaps shortened line, is no row.
    """

    data: bytes
    place: int
    line: int
    count: int
    fault: str | None = None


def read_range(path: str, start: int, length: int) -> Iterator[Lines]:
    """The lines whose first byte lies in `[start, start + length)` of an uncompressed file."""
    with open_input(path) as stream:
        place = start
        if start > 0:
            # A line that begins exactly at `start` has its predecessor's end one byte before.
            stream.seek(start - 1)
            place -= 1
            while part := stream.readline(MAX_LINE_BYTES):
                place += len(part)
                if part.endswith(b"\n"):
                    break
        yield from _cut(stream, place, start + length)


def read_stream(path: str, encoding: str) -> Iterator[Lines]:
    """All lines of a file, decompressed if need be, in UTF-8 if its encoding is not safe to cut at lines."""
    with open_input(path) as raw:
        codec = codec_of(raw, path)
        stream: Readable = raw if codec is None else Decompressed(raw, codec)
        if not is_line_safe(encoding):
            stream = Transcode(stream, encoding)
        yield from _cut(stream, 0, None)


def after(pieces: Iterable[Lines], place: int) -> Iterator[Lines]:
    """The lines that begin at `place` or later; those before are counted, without their text."""
    for piece in pieces:
        if piece.place >= place:
            yield piece
            continue
        cut = max(0, min(place - piece.place, len(piece.data))) if piece.fault is None else len(piece.data)
        passed = piece.data.count(b"\n", 0, cut)
        yield Lines(b"", piece.place, piece.line, passed)
        if cut < len(piece.data):
            rest, count = piece.data[cut:], piece.count - passed
            yield Lines(rest, place, piece.line + passed, count)


def _cut(stream: Readable, place: int, end: int | None) -> Iterator[Lines]:
    buffer, line, skipping = b"", 0, False
    if place == 0:
        head = stream.read(len(codecs.BOM_UTF8))
        if head == codecs.BOM_UTF8:
            # The mark is no part of the first line, which all the same belongs to the range of byte 0.
            place = len(head)
            end = end if end is None else max(end, place + 1)
        else:
            stream = Prepended(head, stream)
    while end is None or place < end:
        size = PIECE_BYTES if end is None else min(PIECE_BYTES, end - place - len(buffer))
        # Past the end only the rest of the last line is missing.
        chunk = stream.read(size if size > 0 else 65536)
        if not chunk:
            fault = getattr(stream, "damage", None)
            if fault is not None:
                yield Lines(buffer[:_KEPT_BYTES] + b"\n", place, line, 1, fault)
            elif buffer:
                yield Lines(buffer + b"\n", place, line, 1)
            return
        buffer += chunk
        if skipping:
            stop = buffer.find(b"\n") + 1
            skipping = stop == 0
            place += stop or len(buffer)
            buffer = buffer[stop:] if stop else b""
        inside = len(buffer) if end is None else end - place
        stop = buffer.find(b"\n", inside - 1) + 1 if 0 < inside <= len(buffer) else 0
        stop = stop or buffer.rfind(b"\n", 0, max(inside, 0)) + 1
        if stop:
            data, buffer = buffer[:stop], buffer[stop:]
            count = data.count(b"\n")
            yield Lines(data, place, line, count)
            line += count
            place += stop
        elif len(buffer) > MAX_LINE_BYTES:
            yield Lines(buffer[:_KEPT_BYTES] + b"\n", place, line, 1, TOO_LONG)
            place, line, buffer, skipping = place + len(buffer), line + 1, b"", True
