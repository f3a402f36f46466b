"""Rows of a Parquet file, a row group at a time."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.prepare.read.files import open_input
from pipelines.prepare.rows import LINE, PLACE, rejected

_BATCH_ROWS = 65_536
_SHOWN = 200


def columns_of(schema: pa.Schema) -> dict[str, tuple[tuple[str, ...], pa.DataType]]:
    """Column to the names that lead to it and its type; `user.id` for a field of a struct."""
    columns: dict[str, tuple[tuple[str, ...], pa.DataType]] = {}

    def add(field: pa.Field, above: tuple[str, ...]) -> None:
        path = (*above, field.name)
        if pa.types.is_struct(field.type):
            for inside in field.type:
                add(inside, path)
        columns.setdefault(".".join(path), (path, field.type))

    for field in schema:
        add(field, ())
    return columns


def unusable(kind: pa.DataType, as_number: bool, explode: bool) -> str | None:
    """Why a column of a type cannot serve as text, or as a number; None if it can.

    Args:
        kind: its type.
        as_number: whether it must be a number or a time.
        explode: whether its lists become rows.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return unusable(kind.storage_type, as_number, explode)
    if pa.types.is_dictionary(kind):
        return unusable(kind.value_type, as_number, explode)
    if pa.types.is_struct(kind):
        return f"is a struct; name one of its fields ({', '.join(field.name for field in kind)})"
    if pa.types.is_map(kind) or pa.types.is_union(kind):
        return f"is a {kind}, which has no use here"
    if is_list(kind):
        if is_list(kind.value_type) or pa.types.is_nested(kind.value_type):
            return f"is a list of {kind.value_type}; a list must hold plain values"
        if as_number and not explode:
            return "is a list; a number needs one value a row: name the list in explode, or use a categorical feature"
    elif explode and not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return f"is {kind} and no list, so it cannot be exploded"
    return None


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is a list of any kind."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def read_group(
    path: str, group: int, first: int, columns: Mapping[str, tuple[str, ...]], base: int
) -> Iterator[tuple[pa.RecordBatch | None, pa.RecordBatch | None]]:
    """Reads one row group.

    Args:
        path: the file.
        group: number of the row group.
        first: rows of the groups before it.
        columns: the wanted columns, and the names in the file that lead to each.
        base: the file's part of the rows' places.

    Yields:
        (rows, rejected): rows in batches with `__place__` and `__line__` (the row's number in the file), and those whose
        text is no UTF-8; if the group breaks off, one rejected entry that says so.
    """
    row = first
    try:
        with open_input(path) as stream:
            file = pq.ParquetFile(stream)
            leaves = sorted({".".join(names) for names in columns.values()})
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=leaves):
                numbers = np.arange(row, row + batch.num_rows)
                arrays = {name: _plain(_field(batch, names)) for name, names in columns.items()}
                arrays[PLACE] = pa.array(numbers.astype(np.uint64) + np.uint64(base))
                arrays[LINE] = pa.array(numbers - first)
                yield _text_checked(pa.RecordBatch.from_pydict(arrays))
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        reason = f"damaged Parquet row group {group}: {' '.join(str(error).split())[:_SHOWN]}"
        yield None, rejected([base + row], [row - first], [reason], [b""])


def _field(batch: pa.RecordBatch, names: tuple[str, ...]) -> pa.Array:
    column = batch.column(batch.schema.get_field_index(names[0]))
    return pc.struct_field(column, list(names[1:])) if len(names) > 1 else column


def _plain(column: pa.Array) -> pa.Array:
    """The column in one of the types that everything behind knows: lists with offsets, strings without views."""
    kind = column.type
    if isinstance(kind, pa.UuidType):
        values = column.storage.dictionary_encode()
        names = pa.array(
            [str(uuid.UUID(bytes=value)) for value in values.dictionary.to_pylist()], pa.string()
        )
        return names.take(values.indices)
    if is_list(kind) and not pa.types.is_list(kind):
        return column.cast(pa.list_(kind.value_type))
    if str(kind) in ("string_view", "large_string"):
        return column.cast(pa.string())
    if str(kind) == "binary_view":
        return column.cast(pa.binary())
    return column


def _text_checked(rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
    bad = np.zeros(rows.num_rows, bool)
    reasons: dict[int, str] = {}
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        wrong = ~_is_utf8(column)
        for row in np.flatnonzero(wrong & ~bad).tolist():
            reasons[row] = f"{name} is not utf-8 text: {_bytes_of(column[row])!r}"
        bad |= wrong
    if not reasons:
        return rows, None
    where = pa.array(np.flatnonzero(bad))
    lost = rows.take(where)
    texts = [reasons[row] for row in sorted(reasons)]
    good = rows.filter(pa.array(~bad))
    return good, rejected(lost.column(PLACE), lost.column(LINE), texts, [b""] * len(texts))


def _is_utf8(column: pa.Array) -> np.ndarray:
    """Which values are UTF-8: Parquet says so of its strings, but nobody has checked."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        words = np.append(_is_utf8(column.dictionary), True)
        return words[column.indices.fill_null(len(words) - 1).to_numpy()]
    if not (pa.types.is_string(kind) or (_is_bytes(kind) and not isinstance(kind, pa.BaseExtensionType))):
        return np.ones(len(column), bool)
    values = column.cast(pa.binary())
    try:
        values.cast(pa.string())
    except pa.ArrowInvalid:
        return np.array([_decodes(value) for value in values.to_pylist()])
    return np.ones(len(column), bool)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _decodes(value: bytes | None) -> bool:
    try:
        return value is None or value.decode("utf-8") is not None
    except UnicodeDecodeError:
        return False


def _bytes_of(value: pa.Scalar) -> bytes:
    shown = value.cast(pa.binary()).as_py() if pa.types.is_string(value.type) else value.as_py()
    return (shown or b"")[:40]
