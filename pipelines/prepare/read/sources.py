"""The files of a source: which there are, and which columns each has."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.prepare.needs import Needs
from pipelines.prepare.read import json_lines, libsvm, lines, parquet, quoted
from pipelines.prepare.read.compression import codec_of
from pipelines.prepare.read.files import File, find, open_input
from pipelines.prepare.read.streams import is_line_safe
from ranker.config import Data, Source
from ranker.errors import UserError

_SHOWN_COLUMNS = 60
_WIDE_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_SAMPLE_BYTES = 4 << 20  # in which fields and indices are looked for
_MAX_INDEX = 10_000  # indices of a libsvm file that are listed as its columns


@dataclass(frozen=True)
class Opened:
    """One file that was looked into.

    Attributes:
        index: its position among the source's files.
        file: where it is.
        columns: its columns by the names of the configuration, in order; none in an empty or unreadable file.
        partitions: columns whose value is in the file's path (`date=2024-01-31/`).
        streamed: whether it can only be read from its beginning to its end.
        header: its header line, if it has one of one line, and
        data_place: where its rows begin.
        groups: rows of each row group; None if it is not Parquet.
        paths: JSON and Parquet: column to the names in the file that lead to it.
        types: Parquet: the type of each column.
        group_ends: libsvm: how many lines its first groups have, added up.
        fault: why nothing of it can be read.
    """

    index: int
    file: File
    columns: tuple[str, ...] = ()
    partitions: tuple[tuple[str, str], ...] = ()
    streamed: bool = False
    header: bytes | None = None
    data_place: int = 0
    groups: tuple[int, ...] | None = None
    paths: tuple[tuple[str, tuple[str, ...]], ...] = ()
    types: tuple[tuple[str, pa.DataType], ...] = ()
    group_ends: tuple[int, ...] | None = None
    fault: str | None = None


def open_source(source: Source, data: Data, needed: Collection[str] = ()) -> list[Opened]:
    """Finds and looks into all files of a source.

    Args:
        source: the source.
        data: the configuration around it.
        needed: columns that something needs: a sparse format has those it can have, whatever its first rows show.

    Raises:
        UserError: a file is missing, or its header cannot be used.
    """
    patterns = [source.path] if isinstance(source.path, str) else list(source.path)
    files = {file.path: file for pattern in patterns for file in find(data.locate(pattern), data.root)}
    look = {
        "parquet": _open_parquet,
        "delimited": _open_delimited,
        "json": _open_json,
        "libsvm": _open_libsvm,
    }[source.format]
    opened = [look(index, file, source, needed) for index, file in enumerate(files.values())]
    if source.format == "json":
        opened = _with_all_fields(opened)
    return [_with_made_columns(opened_file, source) for opened_file in opened]


def _with_all_fields(opened: list[Opened]) -> list[Opened]:
    """Files of objects in which each may have the fields of all: one without a value may be left out."""
    paths = {name: path for opened_file in opened for name, path in opened_file.paths}
    return [
        replace(opened_file, columns=tuple(paths), paths=tuple(paths.items()))
        if opened_file.columns
        else opened_file
        for opened_file in opened
    ]


def _with_made_columns(opened_file: Opened, source: Source) -> Opened:
    """Adds the columns that are not in the file: of its path, of `explode` and `row_id`."""
    if not opened_file.columns:
        return opened_file
    partitions = _partitions(opened_file.file.name)
    added = [*partitions, source.row_id, source.explode.position if source.explode else None]
    columns = dict.fromkeys([*opened_file.columns, *(name for name in added if name)])
    for name in (*source.integers, *(source.explode.columns if source.explode else ())):
        if name not in columns:
            raise UserError(
                f"{opened_file.file.path}: no column {name!r}, which {'integers' if name in source.integers else 'explode'}"
                f" names; it has: {', '.join(opened_file.columns)}"
            )
    return replace(opened_file, columns=tuple(columns), partitions=tuple(partitions.items()))


def _partitions(name: str) -> dict[str, str]:
    """Columns in a path, as Hive writes them: `date=2024-01-31/country=DE/part-0.parquet`."""
    parts = [part.partition("=") for part in name.split("/")[:-1] if "=" in part]
    values = {key: unquote(value) for key, _, value in parts if key}
    return {key: "" if value == "__HIVE_DEFAULT_PARTITION__" else value for key, value in values.items()}


_Value = TypeVar("_Value")


def _without_targets(columns: dict[str, _Value], source: Source) -> dict[str, _Value]:
    """Columns of nested data without those whose name another one gets: `rename: {user.id: user}` hides `user`."""
    targets = set(source.rename.values()) - set(source.rename)
    return {name: value for name, value in columns.items() if name not in targets}


def _renamed(names: Sequence[str], source: Source, file: File) -> tuple[str, ...]:
    for old in source.rename:
        if old not in names:
            raise UserError(f"{file.path}: no column {old!r}, which rename names; it has: {', '.join(names)}")
    new = [source.rename.get(name, name) for name in names]
    twice = [name for name in new if new.count(name) > 1]
    if twice:
        raise UserError(f"{file.path}: the header names the column {twice[0]!r} twice")
    return tuple(new)


def check_columns(opened: list[Opened], columns: tuple[str, ...], needs: Needs, source: Source) -> None:
    """Raises a UserError if a file lacks one of the columns, or has it in a type that cannot serve."""
    for opened_file in opened:
        missing = [column for column in columns if column not in opened_file.columns]
        if opened_file.columns and missing:
            raise UserError(
                f"{opened_file.file.path}: no column {missing[0]!r}, which {needs.reason(missing[0])} needs;"
                f" it has: {_listed(opened_file.columns)}{column_hint(missing[0], opened_file.columns)}"
            )
        for name, kind in opened_file.types:
            if name not in columns:
                continue
            exploded = name in (source.explode.columns if source.explode else ())
            reason = parquet.unusable(kind, name in needs.numbers, exploded)
            if reason is not None:
                raise UserError(
                    f"{opened_file.file.path}: the column {name!r}, which {needs.reason(name)} needs, {reason}"
                )


def column_hint(name: str, columns: Sequence[str]) -> str:
    """What may be the matter with a header that lacks a column; empty if nothing comes to mind."""
    if any(re.fullmatch(r"[-+]?[0-9.]+", column) for column in columns):
        return ". If that is no header, name the columns in columns"
    if columns and columns[0].startswith(("#", "//")):
        return f". If lines that begin with {columns[0][:1]!r} are no rows, set comment: {columns[0][:1]!r}"
    if len(columns) == 1 and (mark := next((mark for mark in "\t;|" if mark in columns[0]), None)):
        return f". If {mark!r} stands between its fields, set delimiter"
    close = {column.lower().strip("_ "): column for column in columns}
    match = difflib.get_close_matches(name.lower().strip("_ "), close, 1)
    return f". Did you mean {close[match[0]]!r}?" if match else ""


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:_SHOWN_COLUMNS])
    return shown if len(columns) <= _SHOWN_COLUMNS else f"{shown}, ... ({len(columns)} columns)"


def _open_delimited(index: int, file: File, source: Source, needed: Collection[str]) -> Opened:
    streamed = _is_compressed(file) or not is_line_safe(source.encoding)
    has_header = source.header if source.header is not None else source.columns is None
    encoding = source.encoding if is_line_safe(source.encoding) else "utf-8"
    passed, header = 0, b""
    place = 0
    for part in lines.read_stream(file.path, source.encoding):
        if part.fault is not None and passed >= source.skip_lines:
            return Opened(index, file, streamed=streamed, fault=part.fault)
        place = part.place
        for line in _lines(part.data):
            start, place = place, place + len(line)
            if passed < source.skip_lines:
                passed += 1
                continue
            text = line.removesuffix(b"\n").removesuffix(b"\r")
            if not header and (not text or _is_comment(text, source, encoding)):
                continue
            if not has_header:
                return _delimited(index, file, source.columns or (), source, streamed, None, start)
            header += line
            if len(header) > lines.MAX_LINE_BYTES or not _is_open(header, source, encoding):
                header = header.removesuffix(b"\n").removesuffix(b"\r")
                names = _header(header, source, file)
                repeated = None if b"\n" in header else header
                return _delimited(index, file, source.columns or names, source, streamed, repeated, place)
    if source.columns is not None and file.size and not has_header:
        return _delimited(index, file, source.columns, source, streamed, None, place)
    return Opened(index, file)


def _delimited(
    index: int,
    file: File,
    names: tuple[str, ...],
    source: Source,
    streamed: bool,
    header: bytes | None,
    data_place: int,
) -> Opened:
    columns = _renamed(names, source, file)
    paths = tuple((name, (name,)) for name in columns)
    return Opened(index, file, columns, (), streamed, header, data_place, paths=paths)


def _lines(data: bytes) -> Iterator[bytes]:
    """The lines of a piece with their ends, one by one."""
    start = 0
    while start < len(data):
        end = data.index(b"\n", start) + 1
        yield data[start:end]
        start = end


def _is_comment(line: bytes, source: Source, encoding: str) -> bool:
    return source.comment is not None and line.startswith(source.comment.encode(encoding))


def _is_open(header: bytes, source: Source, encoding: str) -> bool:
    """Whether a quoted name goes on in the next line."""
    return source.quote is not None and header.count(source.quote.encode(encoding)) % 2 == 1


def _header(line: bytes, source: Source, file: File) -> tuple[str, ...]:
    encoding = source.encoding if is_line_safe(source.encoding) else "utf-8"
    wide = next((name for mark, name in _WIDE_MARKS.items() if line.startswith(mark)), None)
    if wide is not None or b"\0" in line:
        raise UserError(
            f"{file.path}: its characters have several bytes; say so with encoding: {wide or 'utf-16-le'}. Received:"
            f" {source.encoding}"
        )
    try:
        text = line.decode(encoding)
    except UnicodeDecodeError:
        raise UserError(
            f"{file.path}: the header is not {source.encoding} text; set encoding, for example latin-1 or cp1252"
        ) from None
    if "\r" in text and (source.quote is None or source.quote not in text):
        raise UserError(f"{file.path}: its lines end with a carriage return alone; end them with a line feed")
    names, reason = quoted.split(text, source.delimiter, source.quote, None)
    if reason is not None:
        raise UserError(f"{file.path}: the header {reason}")
    if source.quote is None and all(
        len(name) > 1 and name[0] == name[-1] and name[0] in "\"'" for name in names
    ):
        raise UserError(
            f"{file.path}: the names in the header are quoted; say so with quote: {names[0][0]!r}"
        )
    # A name that is empty is its place: pandas writes its index without one.
    names = [name.strip() or f"column_{number}" for number, name in enumerate(names, 1)]
    twice = [name for name in names if names.count(name) > 1]
    if twice and source.columns is None:
        raise UserError(
            f"{file.path}: the header names the column {twice[0]!r} twice; name all of its {len(names)} columns in columns,"
            " with header: true"
        )
    return tuple(names)


def _is_compressed(file: File) -> bool:
    with open_input(file.path) as stream:
        return codec_of(stream, file.path) is not None


def _first_lines(file: File, source: Source) -> tuple[bytes, str | None]:
    """(the first few megabytes of a file, why the file ends there if it is damaged)."""
    data = b""
    for part in lines.read_stream(file.path, source.encoding):
        if part.fault is not None and part.fault != lines.TOO_LONG:
            return data, part.fault
        data += part.data
        if len(data) >= _SAMPLE_BYTES:
            break
    return data, None


def _open_json(index: int, file: File, source: Source, needed: Collection[str]) -> Opened:
    data, fault = _first_lines(file, source)
    streamed = _is_compressed(file) or not is_line_safe(source.encoding)
    if not data:
        return Opened(index, file, streamed=streamed, fault=fault)
    paths = json_lines.discover(data)
    for name in source.columns or ():
        paths.setdefault(name, tuple(name.split(".")))
    if not paths and data.strip():
        return Opened(index, file, streamed=streamed, fault="has no JSON object on a line of its own")
    paths = _without_targets(paths, source)
    names = _renamed(list(paths), source, file)
    return Opened(index, file, names, (), streamed, paths=tuple(zip(names, paths.values(), strict=True)))


def _open_libsvm(index: int, file: File, source: Source, needed: Collection[str]) -> Opened:
    data, fault = _first_lines(file, source)
    if not data:
        return Opened(index, file, streamed=True, fault=fault)
    group_ends = _group_ends(file, source.groups) if source.groups is not None else None
    if source.columns is not None:
        names = [*source.columns, *(["qid"] if group_ends is not None else [])]
    else:
        largest = libsvm.largest_index(data)
        seen = [f"f{number}" for number in range(1, min(largest, _MAX_INDEX) + 1)]
        old = {new: name for name, new in source.rename.items()}
        sparse = [old.get(name, name) for name in needed if libsvm.INDEX.fullmatch(old.get(name, name))]
        names = ["label", "qid", *seen, *sparse]
    in_file = list(dict.fromkeys(names))
    columns = _renamed(in_file, source, file)
    paths = tuple((new, (name,)) for new, name in zip(columns, in_file, strict=True))
    return Opened(index, file, columns, (), True, paths=paths, group_ends=group_ends)


def _group_ends(file: File, ending: str) -> tuple[int, ...]:
    path = file.path + ending
    try:
        with open_input(path) as stream:
            sizes = [int(word) for word in stream.read().split()]
    except ValueError:
        raise UserError(f"{path}: must hold the size of each group, a whole number on each line") from None
    return tuple(accumulate(sizes))


def _open_parquet(index: int, file: File, source: Source, needed: Collection[str]) -> Opened:
    if file.size == 0:
        return Opened(index, file, groups=())
    try:
        with open_input(file.path) as stream:
            parts = pq.ParquetFile(stream)
            rows = [parts.metadata.row_group(group).num_rows for group in range(parts.num_row_groups)]
            described = parquet.columns_of(parts.schema_arrow)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        return Opened(index, file, fault=f"not a whole Parquet file: {reason}")
    described = _without_targets(described, source)
    names = _renamed(list(described), source, file)
    return Opened(
        index,
        file,
        names,
        groups=tuple(rows),
        paths=tuple((name, path) for name, (path, _) in zip(names, described.values(), strict=True)),
        types=tuple((name, kind) for name, (_, kind) in zip(names, described.values(), strict=True)),
    )
