"""Quoted fields: delimiters and line breaks inside them, and quotes that are broken.

A field is quoted if it begins with the quote; a doubled quote inside stands for one. A record whose quotes do not close on
its line goes on to the next line with an odd number of quotes, if what lies between makes one record of the expected number
of fields and no line between is a complete row by itself. Otherwise its quotes are broken, and it alone is rejected.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pipelines.prepare.read.lines import MAX_LINE_BYTES, Lines

csv.field_size_limit(MAX_LINE_BYTES)
_STAND_IN = "\x1f"


def split(text: str, delimiter: str, quote: str | None, count: int) -> tuple[list[str], str | None]:
    """The fields of one record.

    Args:
        text: the record, without its line end.
        delimiter: one or more characters.
        quote: the quoting character, or None.
        count: the fields it must have.

    Returns:
        (fields, None), or ([], reason).
    """
    if quote is None or quote not in text:
        fields = text.split(delimiter)
    else:
        short = delimiter if len(delimiter) == 1 else _STAND_IN
        if short != delimiter and short in text:
            return [], "contains the control character 0x1f beside quotes"
        lines = text.replace(delimiter, short).split("\n")
        lines = [line + "\n" for line in lines[:-1]] + lines[-1:]
        try:
            records = list(csv.reader(lines, delimiter=short, quotechar=quote, doublequote=True, strict=True))
        except csv.Error as error:
            return [], f"has broken quotes: {error}"
        if len(records) != 1:
            return [], "has broken quotes: it is more than one record"
        fields = [field.replace(short, delimiter) if short != delimiter else field for field in records[0]]
    if len(fields) != count:
        return [], f"has another number of fields: {len(fields)} where {count} columns are expected"
    return fields, None


def spans(
    odd: Sequence[int], line: Callable[[int], str], delimiter: str, quote: str, count: int
) -> dict[int, int]:  # fmt: skip
    """Records that go over several lines.

    Args:
        odd: indices of the lines with an odd number of quotes, in order.
        line: any line by index, without its end.
        delimiter: between fields.
        quote: the quoting character.
        count: the fields of a row.

    Returns:
        First line to last line of each such record.
    """
    found, at = {}, 0
    while at + 1 < len(odd):
        first, last = odd[at], odd[at + 1]
        if _is_record([line(index) for index in range(first, last + 1)], delimiter, quote, count):
            found[first] = last
            at += 1
        at += 1
    return found


def whole_records(
    pieces: Iterator[Lines], delimiter: str, quote: str, count: int, encoding: str
) -> Iterator[Lines]:  # fmt: skip
    """Pieces cut anew so that no record is cut: lines from a quote still open wait for the next piece."""
    held: Lines | None = None
    for piece in pieces:
        if held is not None and piece.fault is None:
            piece = Lines(held.data + piece.data, held.place, held.line, held.count + piece.count)
            held = None
        start = _open_record(piece, delimiter, quote, count, encoding) if piece.fault is None else None
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


def _open_record(piece: Lines, delimiter: str, quote: str, count: int, encoding: str) -> int | None:
    """Where the last line begins whose quotes are open, if what follows might close them."""
    shown = np.frombuffer(piece.data, np.uint8)
    ends = np.flatnonzero(shown == 10)
    quotes = np.searchsorted(ends, np.flatnonzero(shown == ord(quote)))
    odd = np.flatnonzero(np.bincount(quotes, minlength=len(ends)) % 2)

    def start(index: int) -> int:
        return int(ends[index - 1]) + 1 if index else 0

    def line(index: int) -> str:
        return piece.data[start(index) : int(ends[index])].removesuffix(b"\r").decode(encoding, "replace")

    if not len(odd) or len(piece.data) - start(int(odd[-1])) > MAX_LINE_BYTES:
        return None
    closed = spans(odd.tolist(), line, delimiter, quote, count)
    return None if int(odd[-1]) in closed.values() else start(int(odd[-1]))


def _is_record(lines: list[str], delimiter: str, quote: str, count: int) -> bool:
    if (
        sum(map(len, lines)) > MAX_LINE_BYTES
        or split("\n".join(lines), delimiter, quote, count)[1] is not None
    ):
        return False
    return not any(split(line, delimiter, quote, count)[1] is None for line in lines[1:-1])
