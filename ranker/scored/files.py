"""Files of scored rows: Parquet, CSV, JSON lines, Arrow IPC; one file a model, or one file with a column a model."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ranker.errors import UserError
from ranker.scored.align import ModelScores, joined_ids, text_column

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
}
_COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")


def read_models(
    sources: Sequence[str],
    request: Sequence[str],
    item: str,
    score: Sequence[str],
    label: str | None = None,
    further: Sequence[str] = (),
) -> list[ModelScores]:
    """Reads what each model scored.

    Args:
        sources: files, globs, directories of files or URIs (`s3://`, `gs://`), one a model; or a single one whose
            `score` columns are a model each.
        request: the column, or columns, that say which rows are ranked against each other.
        item: the column that identifies a candidate within a request.
        score: the column of scores; with a single source at least two columns, one a model.
        label: the column of labels; None: none.
        further: columns to keep beside, for slices.

    Raises:
        UserError: a source has no files, a file cannot be read, lacks a column, or a column cannot be read as what
            it must be; or fewer than two models.
    """
    if len(sources) == 1 and len(score) < 2:
        raise UserError(
            "a comparison must have at least two models: two sources, or one source with two score columns. "
            f"Received: one source and {len(score)} score column(s)"
        )
    if len(sources) > 1 and len(score) != 1:
        raise UserError(
            "with several sources, one a model, there must be one score column. "
            f"Received: {len(sources)} sources and score columns {', '.join(score) or 'none'}"
        )
    columns = [*request, item, *score, *([label] if label is not None else []), *further]
    names = list(score) if len(sources) == 1 else model_names(sources)
    models = []
    for source, name in zip(sources, names, strict=False):
        table = read_table(source, columns, texts=[*request, item])
        ids = request_ids(table, request), text_column(table[item])
        labels = None if label is None else numbers(table[label], label, source)
        columns_kept = {column: table[column] for column in further}
        models += [
            ModelScores(model, *ids, numbers(table[column], column, source), labels, columns_kept)
            for model, column in ([(name, score[0])] if len(sources) > 1 else zip(score, score, strict=True))
        ]
    return models


def model_names(sources: Sequence[str]) -> list[str]:
    """The shortest endings of the paths that tell the sources apart, without the files' suffixes."""
    parts = [_without_suffix(source).replace("\\", "/").split("/") for source in sources]
    for depth in range(1, max(len(part) for part in parts) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"sources must differ. Received: {', '.join(sources)}")


def _without_suffix(source: str) -> str:
    path = source.rstrip("/")
    for suffix in _COMPRESSIONS:
        path = path.removesuffix(suffix)
    for suffix in FORMATS:
        if path.endswith(suffix):
            return path.removesuffix(suffix)
    return path


def read_table(source: str, columns: Sequence[str] | None, texts: Sequence[str]) -> pa.Table:
    """Reads a source's rows.

    Args:
        source: a file, a glob, a directory of files or a URI.
        columns: which to read; None: all.
        texts: columns that stay as they are written, where a format has no types.

    Raises:
        UserError: there is no file, it cannot be read, or it lacks a column or rows.
    """
    tables = [_read_file(filesystem, path, columns, texts) for filesystem, path in _files(source)]
    if not sum(len(table) for table in tables):
        raise UserError(f"{source}: must have at least one row. Received: none")
    return pa.concat_tables(tables, promote_options="permissive") if len(tables) > 1 else tables[0]


def _files(source: str) -> list[tuple[Any, str]]:
    """The files of a source with the file system that has them; None is this machine's."""
    if "://" in source:
        return _remote_files(source)
    path = Path(source)
    if path.is_dir():
        paths = [str(child) for child in sorted(path.iterdir()) if _format(child.name) is not None]
    elif path.exists():
        paths = [source]
    else:
        paths = sorted(glob.glob(source, recursive=True))
    if not paths:
        raise UserError(f"{source}: no such file, and no file matches it")
    return [(None, path) for path in paths]


def _remote_files(source: str) -> list[tuple[Any, str]]:
    try:
        import fsspec
    except ImportError:
        raise UserError(f"{source}: a URI needs fsspec and its package for this kind of store") from None
    try:
        filesystem, path = fsspec.core.url_to_fs(source)
        paths = sorted(filesystem.glob(path)) if glob.has_magic(path) else [path]
        if len(paths) == 1 and filesystem.isdir(paths[0]):
            paths = sorted(
                child for child in filesystem.ls(paths[0], detail=False) if _format(child) is not None
            )
    except (ImportError, ValueError, OSError) as error:
        raise UserError(f"{source}: cannot be read: {error}") from None
    if not paths:
        raise UserError(f"{source}: no such file, and no file matches it")
    return [(filesystem, path) for path in paths]


def _format(name: str) -> str | None:
    for suffix in _COMPRESSIONS:
        name = name.removesuffix(suffix)
    return FORMATS.get(Path(name).suffix.lower())


def _read_file(filesystem: Any, path: str, columns: Sequence[str] | None, texts: Sequence[str]) -> pa.Table:
    kind = _format(path)
    if kind is None:
        raise UserError(f"{path}: a file's name must end in one of {', '.join(FORMATS)}")
    try:
        opened = (
            pa.PythonFile(filesystem.open(path, "rb"), "r") if filesystem is not None else pa.OSFile(path)
        )
        with opened as stream:
            if any(path.endswith(suffix) for suffix in _COMPRESSIONS):
                stream = pa.CompressedInputStream(stream, pa.Codec.detect(path).name)
            table = _READERS[kind](stream, path, columns, texts)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if columns is None:
        return table
    _require(path, columns, table.column_names)
    return table.select(list(dict.fromkeys(columns)))


def _require(path: str, columns: Sequence[str], names: Sequence[str]) -> None:
    absent = [column for column in columns if column not in names]
    if absent:
        raise UserError(f"{path}: must have the column {', '.join(absent)}. Received: {', '.join(names)}")


def _read_parquet(stream: Any, path: str, columns: Sequence[str] | None, texts: Sequence[str]) -> pa.Table:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(stream)
    if columns is None:
        return file.read()
    _require(path, columns, file.schema_arrow.names)
    return file.read(columns=list(dict.fromkeys(columns)))


def _read_csv(stream: Any, path: str, columns: Sequence[str] | None, texts: Sequence[str]) -> pa.Table:
    from pyarrow import csv

    # Ids stay as they are written: 007 is not 7.
    convert = csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string()), strings_can_be_null=False)
    delimiter = "\t" if ".tsv" in path else ","
    return csv.read_csv(stream, parse_options=csv.ParseOptions(delimiter=delimiter), convert_options=convert)


def _read_json(stream: Any, path: str, columns: Sequence[str] | None, texts: Sequence[str]) -> pa.Table:
    from pyarrow import json

    return json.read_json(stream)


def _read_ipc(stream: Any, path: str, columns: Sequence[str] | None, texts: Sequence[str]) -> pa.Table:
    content = pa.BufferReader(stream.read())
    try:
        return pa.ipc.open_file(content).read_all()
    except pa.ArrowInvalid:
        content.seek(0)
        return pa.ipc.open_stream(content).read_all()


_READERS: dict[str, Callable[[Any, str, Sequence[str] | None, Sequence[str]], pa.Table]] = {
    "parquet": _read_parquet,
    "csv": _read_csv,
    "json": _read_json,
    "ipc": _read_ipc,
}


def request_ids(table: pa.Table, request: Sequence[str]) -> pa.ChunkedArray:
    """The texts of the request columns, joined, of each row.

    Raises:
        UserError: there is no request column.
    """
    return joined_ids([text_column(table[name]) for name in request])


def numbers(column: pa.ChunkedArray, name: str, source: str) -> NDArray[np.float64]:
    """A column's numbers, also written as text; NaN where missing.

    Raises:
        UserError: a value is no number.
    """
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = _parsed(column, name, source)
    elif not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise UserError(f"{source}: column {name} must hold numbers. Received: {kind}")
    values = column.to_numpy()
    return np.asarray(values, np.float64)


def _parsed(column: pa.ChunkedArray, name: str, source: str) -> pa.ChunkedArray:
    """Numbers written as text; what is empty or says NaN is missing."""
    trimmed = pc.utf8_trim_whitespace(column)
    empty = pc.is_in(pc.utf8_lower(trimmed), pa.array(["", "nan", "null", "none", "na", "n/a", "\\n"]))
    trimmed = pc.if_else(empty, pa.scalar(None, trimmed.type), trimmed)
    try:
        return trimmed.cast(pa.float64())
    except pa.ArrowInvalid:
        for position, value in enumerate(trimmed.to_pylist()):
            if value is not None and not _is_number(value):
                raise UserError(
                    f"{source}: column {name} must hold numbers. Received in row {position + 1}: {value[:80]!r}"
                ) from None
        raise


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
