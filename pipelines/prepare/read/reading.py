"""The blocks of a source's files, and the rows in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from pipelines.prepare.needs import Needs
from pipelines.prepare.read import conventions, delimited, json_lines, libsvm, lines, parquet, quoted
from pipelines.prepare.read.columns import NumberFormat
from pipelines.prepare.read.delimited import Delimited
from pipelines.prepare.read.json_lines import JsonFields
from pipelines.prepare.read.libsvm import Sparse
from pipelines.prepare.read.sources import Opened
from pipelines.prepare.read.streams import is_line_safe
from pipelines.prepare.rows import FILE_SHIFT, rejected
from ranker.config import Source

BLOCK_BYTES = 32 << 20


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


def blocks(opened: list[Opened]) -> list[Block]:
    """The blocks of all files, in the order of their rows."""
    result = []
    for opened_file in opened:
        if opened_file.fault or opened_file.streamed:
            result.append(Block(opened_file.index, 0, opened_file.file.size))
        elif opened_file.groups is not None:
            result += [
                Block(opened_file.index, group, rows) for group, rows in enumerate(opened_file.groups) if rows
            ]
        else:
            starts = range(0, opened_file.file.size, BLOCK_BYTES)
            result += [
                Block(opened_file.index, start, min(BLOCK_BYTES, opened_file.file.size - start))
                for start in starts
            ]
    return result


def batches(opened: list[Opened]) -> int:
    """About how many batches of rows all files give; a compressed file is taken for four times its size."""
    sizes = [
        opened_file.file.size * (4 if opened_file.streamed else 1)
        for opened_file in opened
        if opened_file.groups is None
    ]
    return sum(-(-size // lines.PIECE_BYTES) for size in sizes) + sum(
        len(opened_file.groups or ()) for opened_file in opened
    )


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


def read(block: Block, opened_file: Opened, source: Source, needs: Needs) -> Iterator[Read]:
    """Reads a block, piece by piece."""
    base = opened_file.index << FILE_SHIFT
    if opened_file.fault:
        yield Read([], rejected([base], [0], [opened_file.fault], [b""]), 0)
        return
    constants = {name: value for name, value in opened_file.partitions if name in needs}
    lists = conventions.split_fields(source)
    # Columns that only `explode` reads come along with those that something needs.
    in_file = [
        name for name in dict(opened_file.paths) if name not in constants and (name in needs or name in lists)
    ]
    text = tuple(name for name in in_file if name in needs.text or name in lists)
    numbers = tuple(name for name in in_file if name not in text)
    for rows, bad, lines_read in _read(
        block=block, opened_file=opened_file, source=source, text=text, numbers=numbers, base=base
    ):
        batches, unfit = [], []
        for batch in rows:
            good, wrong = conventions.apply(batch, source, constants)
            batches += good
            unfit += [] if wrong is None else [wrong]
        unfit += [] if bad is None else [bad]
        yield Read(batches, pa.concat_batches(unfit) if unfit else None, lines_read)


def _read(
    block: Block,
    opened_file: Opened,
    source: Source,
    text: tuple[str, ...],
    numbers: tuple[str, ...],
    base: int,
) -> Iterator[tuple[list[pa.RecordBatch], pa.RecordBatch | None, int]]:
    """(batches, rejected, lines) of a block as its format has them."""
    path, paths = opened_file.file.path, dict(opened_file.paths)
    if opened_file.groups is not None:
        first = sum(opened_file.groups[: block.start])
        needed_paths = {name: paths[name] for name in (*text, *numbers) if name in paths}
        for rows, bad in parquet.read_group(path, block.start, first, needed_paths, base):
            yield [] if rows is None else [rows], bad, 0 if rows is None else rows.num_rows + _rows(bad)
        return
    if opened_file.streamed:
        pieces = lines.after(lines.read_stream(path, source.encoding), opened_file.data_place)
    else:
        pieces = lines.after(lines.read_range(path, block.start, block.length), opened_file.data_place)
    if source.format == "json":
        fields = JsonFields(
            {name: paths[name] for name in (*text, *numbers) if name in paths},
            "utf-8" if not is_line_safe(source.encoding) else source.encoding,
        )
        for part in pieces:
            yield *json_lines.parse(part, fields, opened_file.index), part.count
        return
    if source.format == "libsvm":
        old = {paths[name][0]: name for name in (*text, *numbers) if name in paths}
        sparse = Sparse(tuple(old), source.columns, opened_file.group_ends, opened_file.file.name)
        for part in pieces:
            rows_read, unread = libsvm.parse(part, sparse, opened_file.index)
            yield [_with_names(batch, old) for batch in rows_read], unread, part.count
        return
    form = Delimited(
        columns=tuple(paths),
        text=text,
        numbers=numbers,
        delimiter=source.delimiter,
        quote=source.quote,
        encoding=source.encoding,
        transcoded=not is_line_safe(source.encoding),
        header=opened_file.header,
        comment=source.comment,
        null_values=source.null_values,
        plain_numbers=NumberFormat(source.decimal, source.thousands).is_plain,
    )
    if form.quoting is not None and opened_file.streamed:
        pieces = quoted.whole_records(pieces, form.quoting)
    elif form.quoting is not None:
        pieces = quoted.read_range(path, block.start, block.length, opened_file.data_place, form.quoting)
    for part in pieces:
        yield *delimited.parse(part, form, opened_file.index), part.count


def _with_names(rows: pa.RecordBatch, names: Mapping[str, str]) -> pa.RecordBatch:
    return rows.rename_columns([names.get(name, name) for name in rows.schema.names])


def _rows(batch: pa.RecordBatch | None) -> int:
    return 0 if batch is None else batch.num_rows
