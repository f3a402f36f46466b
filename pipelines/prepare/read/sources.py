"""The files of a source: which there are, which columns each has, and the blocks in which they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.prepare.needs import Needs
from pipelines.prepare.read import delimited, lines, parquet, quoted
from pipelines.prepare.read.delimited import Delimited
from pipelines.prepare.read.files import File, find, open_input
from pipelines.prepare.read.streams import is_line_safe
from pipelines.prepare.rows import FILE_SHIFT, rejected
from ranker.config import Data, Source
from ranker.errors import UserError

BLOCK_BYTES = 32 << 20


@dataclass(frozen=True)
class Opened:
    """One file that was looked into.

    Attributes:
        index: its position among the source's files.
        file: where it is.
        columns: its columns, in order; none in an empty or unreadable file.
        streamed: whether it can only be read from its beginning to its end.
        header: its header line, if it has one, and
        header_place: where that begins.
        groups: rows of each row group; None if it is not Parquet.
        fault: why nothing of it can be read.
    """

    index: int
    file: File
    columns: tuple[str, ...] = ()
    streamed: bool = False
    header: bytes | None = None
    header_place: int = 0
    groups: tuple[int, ...] | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Block:
    """A part of a file that is read in one go: a byte range, a whole stream, or a Parquet row group.

    Attributes:
        file: index of the file.
        start: first byte, or number of the row group.
        length: bytes, or rows; only the order and the sum matter for streams.
    """

    file: int
    start: int
    length: int


def open_source(source: Source, data: Data) -> list[Opened]:
    """Finds and looks into all files of a source.

    Raises:
        UserError: a file is missing, or its header cannot be used.
    """
    patterns = [source.path] if isinstance(source.path, str) else list(source.path)
    files = {file.path: file for pattern in patterns for file in find(data.locate(pattern), data.root)}
    look = _open_parquet if source.format == "parquet" else _open_delimited
    return [look(index, file, source) for index, file in enumerate(files.values())]


def check_columns(opened: list[Opened], wanted: tuple[str, ...], needs: Needs) -> None:
    """Raises a UserError if a file lacks one of the columns."""
    for one in opened:
        missing = [column for column in wanted if column not in one.columns]
        if one.columns and missing:
            raise UserError(
                f"{one.file.path}: no column {missing[0]!r}, which {needs.reason(missing[0])} needs;"
                f" it has: {', '.join(one.columns)}"
            )


def blocks(opened: list[Opened]) -> list[Block]:
    """The blocks of all files, in the order of their rows."""
    result = []
    for one in opened:
        if one.fault or one.streamed:
            result.append(Block(one.index, 0, one.file.size))
        elif one.groups is not None:
            result += [Block(one.index, group, rows) for group, rows in enumerate(one.groups) if rows]
        else:
            starts = range(0, one.file.size, BLOCK_BYTES)
            result += [Block(one.index, start, min(BLOCK_BYTES, one.file.size - start)) for start in starts]
    return result


def batches(opened: list[Opened]) -> int:
    """About how many batches of rows all files give; a compressed file is taken for four times its size."""
    sizes = [one.file.size * (4 if one.streamed else 1) for one in opened if one.groups is None]
    return sum(-(-size // lines.PIECE_BYTES) for size in sizes) + sum(len(one.groups or ()) for one in opened)


def lines_before(opened: list[Opened], counts: Mapping[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """Lines of the file before each block.

    Args:
        opened: the files.
        counts: lines of each block, by (file, start).

    Returns:
        By (file, place of the block's first row).
    """
    before: dict[tuple[int, int], int] = {}
    seen: Counter[int] = Counter()
    for block in blocks(opened):
        groups = opened[block.file].groups
        before[block.file, sum(groups[: block.start]) if groups else block.start] = seen[block.file]
        seen[block.file] += counts.get((block.file, block.start), 0)
    return before


@dataclass(frozen=True)
class Read:
    """What was read of a block at a time.

    Attributes:
        rows: batches of raw rows.
        rejected: what was no row, or None.
        lines: all lines of it, whatever became of them.
    """

    rows: list[pa.RecordBatch]
    rejected: pa.RecordBatch | None
    lines: int


def read(block: Block, one: Opened, source: Source, needs: Needs) -> Iterator[Read]:
    """Reads a block, piece by piece."""
    base = one.index << FILE_SHIFT
    if one.fault:
        yield Read([], rejected([base], [0], [one.fault], [b""]), 0)
        return
    text = tuple(column for column in one.columns if column in needs.text)
    numbers = tuple(column for column in one.columns if column in needs.numbers)
    if one.groups is not None:
        first = sum(one.groups[: block.start])
        for rows, bad in parquet.read_group(one.file.path, block.start, first, text + numbers, base):
            yield Read([] if rows is None else [rows], bad, 0 if rows is None else rows.num_rows)
        return
    form = Delimited(
        one.columns, text, numbers, source.delimiter, source.quote, source.encoding,
        not is_line_safe(source.encoding), one.header, one.header_place,
    )  # fmt: skip
    if one.streamed:
        pieces = lines.read_stream(one.file.path, source.encoding)
    else:
        pieces = lines.read_range(one.file.path, block.start, block.length)
    if source.quote is not None:
        encoding = "utf-8" if form.transcoded else source.encoding
        pieces = quoted.whole_records(pieces, source.delimiter, source.quote, len(one.columns), encoding)
    for part in pieces:
        batches, bad = delimited.parse(part, form, one.index)
        yield Read(batches, bad, part.count)


def _open_delimited(index: int, file: File, source: Source) -> Opened:
    with open_input(file.path) as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    streamed = compressed or source.quote is not None or not is_line_safe(source.encoding)
    if source.columns is not None:
        return Opened(index, file, source.columns, streamed)
    for part in lines.read_stream(file.path, source.encoding):
        if part.fault is not None:
            return Opened(index, file, streamed=streamed, fault=part.fault)
        place = part.place
        for line in part.data.split(b"\n"):
            header = line.removesuffix(b"\r")
            if header:
                return Opened(index, file, _header(header, source, file), streamed, header, place)
            place += len(line) + 1
    return Opened(index, file)


def _header(line: bytes, source: Source, file: File) -> tuple[str, ...]:
    encoding = source.encoding if is_line_safe(source.encoding) else "utf-8"
    try:
        names = line.decode(encoding).split(source.delimiter)
    except UnicodeDecodeError:
        raise UserError(f"{file.path}: the header is not {source.encoding} text") from None
    if source.quote:
        names = [name.removeprefix(source.quote).removesuffix(source.quote) for name in names]
    elif all(len(name) > 1 and name[0] == name[-1] and name[0] in "\"'" for name in names):
        raise UserError(
            f"{file.path}: the names in the header are quoted; say so with quote: {names[0][0]!r}"
        )
    names = [name.strip() for name in names]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{file.path}: the header names the column {twice[0]!r} twice")
    return tuple(names)


def _open_parquet(index: int, file: File, source: Source) -> Opened:
    if file.size == 0:
        return Opened(index, file, groups=())
    try:
        with open_input(file.path) as stream:
            found = pq.ParquetFile(stream)
            rows = [found.metadata.row_group(group).num_rows for group in range(found.num_row_groups)]
            return Opened(index, file, tuple(found.schema_arrow.names), groups=tuple(rows))
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        return Opened(index, file, fault=f"not a whole Parquet file: {reason}")
