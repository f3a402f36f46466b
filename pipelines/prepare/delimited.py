"""Lines of delimited text into columns, and the lines that are no rows into the rejected.

Clean lines go through Arrow's parser in one go. Only a piece with something odd in it is looked at line by line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv

from pipelines.prepare.columns import TEXT_TYPE
from pipelines.prepare.lines import MAX_LINE_BYTES, TOO_LONG, Lines
from pipelines.prepare.rows import FILE_SHIFT, LINE, PLACE, TEXT, rejected


@dataclass(frozen=True)
class Delimited:
    """How the lines of one file are to be read.

    Attributes:
        columns: all columns, in the file's order.
        text: those to give as text, and
        numbers: those to give as float64 where possible.
        delimiter: one or more characters.
        quote: the quoting character, if fields may be quoted.
        encoding: of the lines; what `read_stream` transcoded is UTF-8.
        header: the header line as it stands in the file, without its end; None if there is none.
        header_place: where it begins.
    """

    columns: tuple[str, ...]
    text: tuple[str, ...]
    numbers: tuple[str, ...]
    delimiter: str
    quote: str | None = None
    encoding: str = "utf-8"
    header: bytes | None = None
    header_place: int = 0


def parse(lines: Lines, form: Delimited, file: int) -> tuple[pa.RecordBatch | None, pa.RecordBatch | None]:
    """Parses lines.

    Args:
        lines: whole lines.
        form: how to read them.
        file: the file's index, part of every row's place.

    Returns:
        (rows, rejected), each None if there is none. Rows have the wanted columns (dictionary-encoded text,
        or float64), `__place__`, `__line__` and `__text__`. Empty lines and the header are in neither.
    """
    lines = _after_header(lines, form)
    base = (file << FILE_SHIFT) + lines.place
    if lines.fault is not None:
        return None, rejected([base], [lines.line], [lines.fault], [lines.data])
    if not lines.data:
        return None, None
    bytes_ = np.frombuffer(lines.data, np.uint8)
    ends = np.flatnonzero(bytes_ == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if _looks_clean(lines.data, form, ends, starts):
        rows = _read(lines.data, form, len(ends))
        if rows is not None:
            return _with_origin(rows, lines.data, starts, ends, base, lines.line, None), None
    return _parse_carefully(lines, form, starts, ends, base)


def _after_header(lines: Lines, form: Delimited) -> Lines:
    if form.header is None or lines.place != form.header_place or lines.fault is not None:
        return lines
    end = lines.data.index(b"\n") + 1
    return Lines(lines.data[end:], lines.place + end, lines.line + 1)


def _looks_clean(data: bytes, form: Delimited, ends: np.ndarray, starts: np.ndarray) -> bool:
    if b"\0" in data or int((ends - starts).max()) > MAX_LINE_BYTES:
        return False
    if b"\r" in data and b"\r" in data.replace(b"\r\n", b""):
        return False
    if form.header and form.header in data:
        return False
    if form.quote and form.quote.encode() in data:
        return False
    return data.isascii() or (form.encoding in ("utf-8", "utf-8-sig") and _is_utf8(data))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _read(data: bytes, form: Delimited, count: int) -> dict[str, pa.Array] | None:
    """Arrow's parser; None if the data are not `count` well-formed rows."""
    delimiter = form.delimiter.encode()
    if len(delimiter) > 1:
        free = next(bytes([byte]) for byte in (31, 30, 29, 28, 1, 2, 3, 4, 5, 6) if bytes([byte]) not in data)
        data, delimiter = data.replace(delimiter, free), free
    table = _read_csv(data, form, delimiter, dict.fromkeys(form.numbers, pa.float64()))
    if table is None and form.numbers:
        table = _read_csv(data, form, delimiter, {})
    if table is None or table.num_rows != count:
        return None
    return {name: table[name].combine_chunks() if table[name].num_chunks != 1 else table[name].chunk(0)
            for name in table.column_names}  # fmt: skip


def _read_csv(
    data: bytes, form: Delimited, delimiter: bytes, types: dict[str, pa.DataType]
) -> pa.Table | None:
    wanted = [*form.text, *form.numbers]
    try:
        return pa.csv.read_csv(
            pa.BufferReader(data),
            pa.csv.ReadOptions(use_threads=False, column_names=list(form.columns), block_size=len(data) + 1),
            pa.csv.ParseOptions(delimiter=delimiter.decode("latin-1"), quote_char=False, double_quote=False,
                                ignore_empty_lines=True),
            pa.csv.ConvertOptions(column_types={name: types.get(name, TEXT_TYPE) for name in wanted},
                                  include_columns=wanted, null_values=[""], strings_can_be_null=False,
                                  check_utf8=False),
        )  # fmt: skip
    except pa.ArrowInvalid:
        return None


def _parse_carefully(
    lines: Lines, form: Delimited, starts: np.ndarray, ends: np.ndarray, base: int
) -> tuple[pa.RecordBatch | None, pa.RecordBatch | None]:
    good, texts, bad, reasons = [], [], [], []
    for index, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        line = lines.data[start:end]
        line = line[:-1] if line.endswith(b"\r") else line
        if not line or (line == form.header and lines.place + start == form.header_place):
            continue
        fields, reason = _split(line, form)
        if reason is None:
            good.append(index)
            texts.append(fields)
        else:
            bad.append(index)
            reasons.append(reason)
    rows = None
    if good:
        positions = {name: form.columns.index(name) for name in (*form.text, *form.numbers)}
        columns = {
            name: pa.array([fields[position] for fields in texts], pa.string()).dictionary_encode()
            for name, position in positions.items()
        }
        rows = _with_origin(columns, lines.data, starts, ends, base, lines.line, np.array(good))
    if not bad:
        return rows, None
    where = np.array(bad)
    cut = [lines.data[starts[i] : min(ends[i], starts[i] + 4096)] for i in bad]
    if form.encoding not in ("utf-8", "utf-8-sig"):
        cut = [text.decode(form.encoding, "replace").encode() for text in cut]
    return rows, rejected(starts[where] + base, where + lines.line, reasons, cut)


def _split(line: bytes, form: Delimited) -> tuple[list[str], str | None]:
    """The fields of one line, or why it has none."""
    if len(line) > MAX_LINE_BYTES:
        return [], TOO_LONG
    if line == form.header:
        return [], "repeats the header"
    if b"\0" in line:
        return [], "contains a NUL byte"
    try:
        text = line.decode(form.encoding)
    except UnicodeDecodeError as error:
        return [], f"is not {form.encoding}: byte 0x{line[error.start]:02x}"
    fields = text.split(form.delimiter)
    if len(fields) != len(form.columns):
        return [], f"has {len(fields)} fields where {len(form.columns)} columns are expected"
    return fields, None


def _with_origin(
    columns: dict[str, pa.Array], data: bytes, starts: np.ndarray, ends: np.ndarray, base: int, line: int,
    chosen: np.ndarray | None,
) -> pa.RecordBatch:  # fmt: skip
    # The lines lie one behind the other: their texts are the piece itself, not a copy.
    offsets = np.append(starts, ends[-1] + 1).astype(np.int32)
    text = pa.BinaryArray.from_buffers(
        pa.binary(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    numbers = np.arange(len(starts))
    if chosen is not None:
        starts, numbers, text = starts[chosen], chosen, text.take(pa.array(chosen))
    origin = {
        PLACE: pa.array(starts.astype(np.uint64) + np.uint64(base)),
        LINE: pa.array(numbers.astype(np.int64) + line),
        TEXT: text,
    }
    return pa.RecordBatch.from_pydict({**columns, **origin})
