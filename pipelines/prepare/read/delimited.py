"""Lines of delimited text into columns, and the lines that are no rows into the rejected.

Clean lines go through Arrow's parser in one go. Only a line with something odd in it (a quote, a NUL, another number of
fields, ...) is looked at by itself. Which way a line goes depends on the line alone, never on its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipelines.prepare.read import quoted
from pipelines.prepare.read.columns import TEXT_TYPE
from pipelines.prepare.read.lines import MAX_LINE_BYTES, TOO_LONG, Lines
from pipelines.prepare.read.quoted import Quoting
from pipelines.prepare.rows import FILE_SHIFT, LINE, PLACE, TEXT, rejected

_UNKNOWN = "\ufffd".encode()  # what a decoder leaves where bytes are no text
_KEPT_BYTES = 4096


@dataclass(frozen=True)
class Delimited:
    """How the lines of one file are to be read.

    Attributes:
        columns: all columns, in the file's order.
        text: those to give as text, and
        numbers: those to give as float64 where all of a piece are numbers, else as text.
        delimiter: one or more characters.
        quote: the quoting character, if fields may be quoted.
        encoding: of the text.
        transcoded: whether the lines are UTF-8 by now, made from `encoding`.
        header: the header line as it stands in the file, without its end; None if there is none, or it has several.
        comment: what lines that are no rows begin with.
        null_values: texts of missing numbers, beside the empty one.
        plain_numbers: whether numbers have a decimal point and no marks between thousands; others stay text here.
    """

    columns: tuple[str, ...]
    text: tuple[str, ...]
    numbers: tuple[str, ...]
    delimiter: str
    quote: str | None = None
    encoding: str = "utf-8"
    transcoded: bool = False
    header: bytes | None = None
    comment: str | None = None
    null_values: tuple[str, ...] = ()
    plain_numbers: bool = True

    @property
    def quoting(self) -> Quoting | None:
        """How fields are quoted, in the text as it is read; None if they are not."""
        if self.quote is None:
            return None
        encoding = "utf-8" if self.transcoded else self.encoding
        return Quoting(self.delimiter, self.quote, len(self.columns), encoding, self.comment)


def parse(lines: Lines, form: Delimited, file: int) -> tuple[list[pa.RecordBatch], pa.RecordBatch | None]:
    """Parses lines.

    Args:
        lines: whole lines.
        form: how to read them.
        file: the file's index, part of every row's place.

    Returns:
        (rows, rejected), the latter None if there is none. Rows have the wanted columns (dictionary-encoded
        text, or float64), `__place__`, `__line__` and `__text__`. Empty lines and comments are in neither.
    """
    base = np.uint64((file << FILE_SHIFT) + lines.place) if lines.data else np.uint64(0)
    if lines.fault is not None:
        return [], rejected([base], [lines.line], [lines.fault], [lines.data])
    if not lines.data:
        return [], None
    piece = _Piece(lines, form, base)
    odd = piece.odd_lines()
    rows = []
    clean = np.flatnonzero(~odd)
    table = piece.read(clean)
    if table is None:
        odd |= piece.fields() != len(form.columns)
        clean = np.flatnonzero(~odd)
        table = piece.read(clean)
        if table is None:
            odd[:] = True
    if table is not None and len(clean):
        rows.append(piece.batch(table, clean))
    odd_rows, bad = piece.look_at(np.flatnonzero(odd))
    return rows + odd_rows, bad


class _Piece:
    """Lines in UTF-8, with the place and the number of each."""

    def __init__(self, lines: Lines, form: Delimited, base: np.uint64):
        self.form, self.first = form, lines.line
        raw_ends = np.flatnonzero(np.frombuffer(lines.data, np.uint8) == 10)
        self.places = np.append(0, raw_ends[:-1] + 1).astype(np.uint64) + base
        self.data, self.ends, self.raw, self.raw_ends = lines.data, raw_ends, lines.data, raw_ends
        if not (lines.data.isascii() or (form.encoding.startswith("utf-8") and _is_utf8(lines.data))):
            self.data = lines.data.decode("utf-8" if form.transcoded else form.encoding, "replace").encode()
            self.ends = np.flatnonzero(np.frombuffer(self.data, np.uint8) == 10)
        self.bytes = np.frombuffer(self.data, np.uint8)
        self.starts = np.append(0, self.ends[:-1] + 1)
        # The lines lie one behind the other: their texts are the piece itself, not a copy.
        offsets = np.append(self.starts, len(self.data)).astype(np.int32)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self.data)]
        self.texts = pa.BinaryArray.from_buffers(pa.binary(), len(self.starts), buffers)

    def odd_lines(self) -> np.ndarray:
        """A bool mask of the lines Arrow's parser must not see."""
        form, length = self.form, self.ends - self.starts
        odd = (length > MAX_LINE_BYTES) | (length == 0)
        if b"\r" in self.data:
            odd |= (length == 1) & (self.bytes[self.starts] == 13)
            returns = np.flatnonzero(self.bytes == 13)
            odd[self._lines_of(returns[self.bytes[returns + 1] != 10])] = True
        quote = (form.quote or "\0").encode()
        for byte in {0, quote[0]} if len(quote) == 1 else {0}:
            if bytes([byte]) in self.data:
                odd[self._lines_of(np.flatnonzero(self.bytes == byte))] = True
        if form.comment is not None:
            odd |= self.comments()
        for text in (_UNKNOWN, form.header, quote if len(quote) > 1 else None):
            at = self.data.find(text) if text else -1
            while text and at >= 0:
                odd[self._lines_of(np.array([at]))] = True
                at = self.data.find(text, at + 1)
        return odd

    def comments(self) -> np.ndarray:
        """A bool mask of the lines that begin with the comment mark."""
        prefix = (self.form.comment or "").encode()
        starts_with = self.ends - self.starts >= len(prefix)
        for offset, byte in enumerate(prefix):
            places = np.minimum(self.starts + offset, len(self.bytes) - 1)
            starts_with &= self.bytes[places] == byte
        return starts_with

    def fields(self) -> np.ndarray:
        """The number of fields of each line."""
        data, delimiter = _single_byte(self.data, self.form.delimiter.encode())
        shown = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(shown == 10)
        at = np.searchsorted(ends, np.flatnonzero(shown == delimiter[0]))
        return np.bincount(at, minlength=len(ends)) + 1

    def read(self, chosen: np.ndarray) -> dict[str, pa.Array] | None:
        """Arrow's parser on some lines; None if they are not well-formed rows, one each."""
        if not len(chosen):
            return {}
        data: pa.Buffer | bytes = self.data
        if len(chosen) < len(self.texts):
            data = self.texts.take(pa.array(chosen)).buffers()[2].to_pybytes()
        short, delimiter = _single_byte(data, self.form.delimiter.encode())
        return _read_rows(short, self.form, delimiter, len(chosen))

    def read_quoted(self, chosen: np.ndarray) -> dict[str, pa.Array] | None:
        """Arrow's parser on lines whose quotes are all in order; None if they are not well-formed rows."""
        if not len(chosen):
            return None
        data = self.texts.take(pa.array(chosen)).buffers()[2].to_pybytes()
        return _read_rows(data, self.form, self.form.delimiter.encode(), len(chosen), self.form.quote)

    def well_quoted(self, chosen: np.ndarray) -> np.ndarray:
        """A bool mask over some lines: those with quotes, around whole fields only."""
        form = self.form
        if form.quote is None or len(form.delimiter.encode()) > 1 or len(form.quote.encode()) > 1:
            return np.zeros(len(chosen), bool)
        quote, delimiter = (f"\\x{ord(mark):02x}" for mark in (form.quote, form.delimiter))
        field = f"(?:{quote}(?:[^{quote}\n]|{quote}{quote})*{quote}|[^{quote}{delimiter}\r\n]*)"
        pattern = f"^{field}(?:{delimiter}{field})*\r?\n$"
        texts = self.texts.take(pa.array(chosen))
        matches = pc.match_substring_regex(texts, pattern)
        lengths = self.ends[chosen] - self.starts[chosen]
        return matches.to_numpy(zero_copy_only=False) & (lengths <= MAX_LINE_BYTES)

    def look_at(self, chosen: np.ndarray) -> tuple[list[pa.RecordBatch], pa.RecordBatch | None]:
        """Reads lines that the parser for plain lines must not see: quoted ones together, others one by one."""
        if self.form.comment is not None and len(chosen):
            chosen = chosen[~self.comments()[chosen]]
        spans = self._spans()
        quoted_rows, chosen = self._quoted_rows(chosen, spans)
        texts = {index: self._line(index) for index in chosen.tolist()}
        good: list[int] = []
        good_fields: list[list[str]] = []
        bad: list[int] = []
        reasons: list[str] = []
        inside = -1
        for index, text in texts.items():
            if index <= inside:
                continue
            inside = spans.get(index, index)
            if inside > index:
                text = b"\n".join(self._line(line) for line in range(index, inside + 1))
            if not text:
                continue
            fields, reason = self._split(index, text)
            if reason is None:
                good.append(index)
                good_fields.append(fields)
            else:
                bad.append(index)
                reasons.append(reason)
        rows = [self.batch(self._columns(good_fields), np.array(good), spans)] if good else []
        where = np.array(bad, np.int64)
        shown = [
            self.data[self.starts[i] : min(self.ends[spans.get(i, i)], self.starts[i] + _KEPT_BYTES)]
            for i in bad
        ]
        return quoted_rows + rows, rejected(
            self.places[where], where + self.first, reasons, shown
        ) if bad else None

    def batch(
        self, columns: dict[str, pa.Array], chosen: np.ndarray, spans: dict[int, int] | None = None
    ) -> pa.RecordBatch:
        """Columns of some lines, with where they come from."""
        text = self.texts if len(chosen) == len(self.texts) else self.texts.take(pa.array(chosen))
        if spans:
            text = pa.array(
                [self.data[self.starts[i] : self.ends[spans.get(i, i)]] for i in chosen], pa.binary()
            )
        origin = {
            PLACE: pa.array(self.places[chosen]),
            LINE: pa.array(chosen.astype(np.int64) + self.first),
            TEXT: text,
        }
        return pa.RecordBatch.from_pydict({**columns, **origin})

    def _quoted_rows(
        self, chosen: np.ndarray, spans: dict[int, int]
    ) -> tuple[list[pa.RecordBatch], np.ndarray]:
        """(batches, the lines that are left) of those lines whose quotes are in order."""
        usable = self.well_quoted(chosen)
        for first, last in spans.items():
            usable &= (chosen < first) | (chosen > last)
        for index in np.flatnonzero(usable).tolist():
            line = self._line(int(chosen[index]))
            usable[index] = line != self.form.header and b"\0" not in line and _UNKNOWN not in line
        table = self.read_quoted(chosen[usable])
        if table is None:
            return [], chosen
        return [self.batch(table, chosen[usable])], chosen[~usable]

    def _spans(self) -> dict[int, int]:
        """First line to last line of the records that go over several lines."""
        form = self.form
        if form.quote is None or form.quote.encode() not in self.data:
            return {}
        quoting = Quoting(form.delimiter, form.quote, len(form.columns), "utf-8", form.comment)
        return {
            int(self._lines_of(np.array([start]))[0]): int(self._lines_of(np.array([end]))[0])
            for start, end in quoting.spans(self.data)
        }

    def _columns(self, rows: list[list[str]]) -> dict[str, pa.Array]:
        form = self.form
        return {
            name: pa.array(
                [fields[form.columns.index(name)] for fields in rows], pa.string()
            ).dictionary_encode()
            for name in (*form.text, *form.numbers)
        }

    def _split(self, index: int, text: bytes) -> tuple[list[str], str | None]:
        """The fields of one record, or why it has none."""
        form = self.form
        if len(text) > MAX_LINE_BYTES:
            return [], TOO_LONG
        if text == form.header:
            return [], "repeats the header"
        if b"\0" in text:
            return [], "contains a NUL byte"
        if _UNKNOWN in text:
            start = int(self.raw_ends[index - 1]) + 1 if index else 0
            try:
                self.raw[start : self.raw_ends[index]].decode("ascii" if form.transcoded else form.encoding)
            except UnicodeDecodeError:
                return [], f"is not {form.encoding} text"
        return quoted.split(text.decode(), form.delimiter, form.quote, len(form.columns))

    def _line(self, index: int) -> bytes:
        return self.data[self.starts[index] : self.ends[index]].removesuffix(b"\r")

    def _lines_of(self, positions: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.ends, positions)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _single_byte(data: bytes, delimiter: bytes) -> tuple[bytes, bytes]:
    """The same lines with a delimiter of one byte that is nowhere else in them."""
    if len(delimiter) == 1:
        return data, delimiter
    for byte in (31, 30, 29, 28, *range(1, 9), 11, 12, *range(14, 28)):
        if bytes([byte]) not in data:
            return data.replace(delimiter, bytes([byte])), bytes([byte])
    return data, b"\0"  # no byte is free: the lines are then read one by one


def _read_rows(
    data: bytes, form: Delimited, delimiter: bytes, rows: int, quote: str | None = None
) -> dict[str, pa.Array] | None:
    """Arrow's parser; None if the lines are not `rows` well-formed rows."""
    for numbers in (pa.float64(), TEXT_TYPE) if form.plain_numbers else (TEXT_TYPE,):
        table = _read_csv(data, form, delimiter, numbers, quote)
        if table is not None and table.num_rows == rows:
            return {name: pa.concat_arrays(table[name].chunks) for name in table.column_names}
    return None


def _read_csv(
    data: bytes, form: Delimited, delimiter: bytes, numbers: pa.DataType, quote: str | None
) -> pa.Table | None:
    types = {**dict.fromkeys(form.text, TEXT_TYPE), **dict.fromkeys(form.numbers, numbers)}
    try:
        return pa.csv.read_csv(
            pa.BufferReader(data),
            pa.csv.ReadOptions(use_threads=False, column_names=list(form.columns), block_size=len(data) + 1),
            pa.csv.ParseOptions(
                delimiter=delimiter.decode("latin-1"),
                quote_char=quote or False,
                double_quote=quote is not None,
            ),
            pa.csv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=["", *form.null_values],
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
