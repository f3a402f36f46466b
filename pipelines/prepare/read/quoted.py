"""Quoted fields: delimiters and line breaks inside them, and quotes that are broken.

A field is quoted if it begins with the quote. A doubled quote inside is one quote. If the quotes of a record do not close on
its line, the record continues to the next line with an odd number of quotes. Two conditions must hold: the lines together
have the expected number of fields, and no line between is a complete row alone. Otherwise the quotes are broken, and only
that line is rejected.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from pipelines.prepare.read import lines
from pipelines.prepare.read.lines import MAX_LINE_BYTES, Lines

csv.field_size_limit(MAX_LINE_BYTES)
_STAND_IN = "\x1f"


def split(text: str, delimiter: str, quote: str | None, count: int | None) -> tuple[list[str], str | None]:
    """The fields of one record.

    Args:
        text: the record, without its line end.
        delimiter: one or more characters.
        quote: the quoting character, or None.
        count: the fields it must have; None for any number.

    Returns:
        (fields, None), or ([], reason).
    """
    if quote is None or quote not in text:
        fields = text.split(delimiter)
    else:
        short = delimiter if len(delimiter) == 1 else _STAND_IN
        if short != delimiter and short in text:
            return [], "contains the control character 0x1f beside quotes"
        parts = text.replace(delimiter, short).split("\n")
        parts = [part + "\n" for part in parts[:-1]] + parts[-1:]
        try:
            records = list(csv.reader(parts, delimiter=short, quotechar=quote, doublequote=True, strict=True))
        except csv.Error as error:
            return [], f"has broken quotes: {error}"
        if len(records) != 1:
            return [], "has broken quotes: it is more than one record"
        fields = [field.replace(short, delimiter) if short != delimiter else field for field in records[0]]
    if count is not None and len(fields) != count:
        return [], f"has another number of fields: {len(fields)} where {count} columns are expected"
    return fields, None


@dataclass(frozen=True)
class Quoting:
    """How the fields of a file are quoted.

    Attributes:
        delimiter: one or more characters.
        quote: the quoting character.
        count: the fields of a row.
        encoding: of the lines.
        comment: what a line that is no row begins with, if there are any.
    """

    delimiter: str
    quote: str
    count: int
    encoding: str
    comment: str | None = None

    def odd(self, data: bytes) -> list[tuple[int, int]]:
        """(start, end) of the lines with an odd number of quotes, which begin or end a record of several lines."""
        mark = self.quote.encode(self.encoding)
        if mark not in data:
            return []
        shown = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(shown == 10)
        starts = np.append(0, ends[:-1] + 1)
        if len(mark) == 1:
            # Sums of bytes wrap at 256, which keeps them odd or even.
            is_odd = np.add.reduceat((shown == mark[0]).view(np.uint8), starts) % 2
        else:
            places = np.array([match.start() for match in re.finditer(re.escape(mark), data)])
            is_odd = np.bincount(np.searchsorted(ends, places), minlength=len(ends)) % 2
        spans = [(int(starts[i]), int(ends[i])) for i in np.flatnonzero(is_odd).tolist()]
        if self.comment is None:
            return spans
        prefix = self.comment.encode(self.encoding)
        return [(start, end) for start, end in spans if not data.startswith(prefix, start)]

    def is_record(self, data: bytes) -> bool:
        """Whether whole lines, the last one's end left out, are one record and not rows with broken quotes."""
        texts = data.decode(self.encoding, "replace").split("\n")
        return _is_record([text.removesuffix("\r") for text in texts], self.delimiter, self.quote, self.count)

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """(start, end) of the records in `data` that go over several lines."""
        odd, spans, at = self.odd(data), [], 0
        while at + 1 < len(odd):
            start, end = odd[at][0], odd[at + 1][1]
            if end - start <= MAX_LINE_BYTES and self.is_record(data[start:end]):
                spans.append((start, end))
                at += 1
            at += 1
        return spans


def read_range(path: str, start: int, length: int, data_place: int, quoting: Quoting) -> Iterator[Lines]:
    """The records whose first byte lies in `[start, start + length)` of an uncompressed file, as whole lines.

    Whether a range begins inside a record shows in the lines before it: the nearest line with an odd number of quotes
    that cannot be the end of a record must be the beginning of one.
    """
    end, line = start + length, 0
    if start == 0:
        first, stop = 0, max(end, data_place)  # the lines before the data are counted here
    elif end <= data_place:
        return
    else:
        first, stop = _certain_start(path, max(start, data_place), data_place, quoting), end
    pieces = chain(lines.read_range(path, first, stop - first), _later(path, stop))
    for piece in whole_records(lines.after(pieces, data_place), quoting):
        if piece.place >= end and piece.data:
            return
        low = high = None
        if piece.place < start:
            low = _first_record(piece, start, quoting)
        if piece.place + len(piece.data) > end:
            high = _first_record(piece, end, quoting)
        data = piece.data[low:high]
        count = piece.count if low is None and high is None else data.count(b"\n")
        if count:
            yield Lines(data, piece.place + (low or 0), line, count, piece.fault)
            line += count
        if piece.data and piece.place + len(piece.data) >= end:
            return


def _later(path: str, start: int) -> Iterator[Lines]:
    """Lines behind a range, for a record that goes on: none if nobody asks."""
    yield from lines.read_range(path, start, 1 << 62)


def _first_record(piece: Lines, place: int, quoting: Quoting) -> int:
    """Where in a piece the first record begins whose first byte lies at `place` of the file or later."""
    if piece.fault is not None:
        return 0 if piece.place >= place else len(piece.data)
    at = place - piece.place
    if at > 0 and piece.data[at - 1 : at] != b"\n":
        at = piece.data.find(b"\n", at) + 1 or len(piece.data)
    for start, end in quoting.spans(piece.data):
        if start < at <= end:
            return end + 1
    return at


def _certain_start(path: str, start: int, data_place: int, quoting: Quoting) -> int:
    """A place at or before `start` where a record begins for certain, with none but whole records from there on."""
    size = 2 * MAX_LINE_BYTES
    while start > data_place:
        low = max(data_place, start - size)
        window = [piece for piece in lines.read_range(path, low, start - low) if piece.fault is None]
        odd = [
            (piece.place + begin, piece.place + end, piece)
            for piece in window
            for begin, end in quoting.odd(piece.data)
        ]
        if low == data_place:
            return data_place if odd else start
        if not odd:
            return start
        for index in range(len(odd) - 1, 0, -1):
            before, place, end = odd[index - 1][0], odd[index][0], odd[index][1]
            if end - before > MAX_LINE_BYTES or not quoting.is_record(_between(window, before, end)):
                return place
        if odd[0][0] - low > MAX_LINE_BYTES:
            return odd[0][0]
        size *= 4
    return start


def _between(window: list[Lines], start: int, end: int) -> bytes:
    parts = [piece.data[max(0, start - piece.place) : max(0, end - piece.place)] for piece in window]
    return b"".join(parts)


def whole_records(pieces: Iterable[Lines], quoting: Quoting) -> Iterator[Lines]:
    """Pieces cut anew so that no record is cut: lines from a quote still open wait for the next piece."""
    held: Lines | None = None
    for piece in pieces:
        if held is not None and piece.fault is None:
            piece = Lines(held.data + piece.data, held.place, held.line, held.count + piece.count)
            held = None
        start = _open_record(piece, quoting) if piece.fault is None and piece.data else None
        if start is None:
            if held is not None:
                yield held
            held = None
            yield piece
            continue
        before = piece.data.count(b"\n", 0, start)
        if start:
            yield Lines(piece.data[:start], piece.place, piece.line, before)
        held = Lines(piece.data[start:], piece.place + start, piece.line + before, piece.count - before)
    if held is not None:
        yield held


def _open_record(piece: Lines, quoting: Quoting) -> int | None:
    """Where the last line begins whose quotes are open, if what follows might close them."""
    odd = quoting.odd(piece.data)
    if not odd or len(piece.data) - odd[-1][0] > MAX_LINE_BYTES:
        return None
    is_closed = any(end == odd[-1][1] for _, end in quoting.spans(piece.data))
    return None if is_closed else odd[-1][0]


def _is_record(texts: list[str], delimiter: str, quote: str, count: int) -> bool:
    if (
        sum(map(len, texts)) > MAX_LINE_BYTES
        or split("\n".join(texts), delimiter, quote, count)[1] is not None
    ):
        return False
    return not any(split(line, delimiter, quote, count)[1] is None for line in texts[1:-1])
