"""What a source's own conventions make of its values: missing ones, whole numbers with a fraction, lists, rows' ids.

All formats come through here, after their reader and before anything else looks at a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.prepare.read.columns import TEXT_TYPE, as_numbers, as_text, decode
from pipelines.prepare.rows import LINE, PLACE, TEXT, rejected
from ranker.config import Explode, Source
from ranker.text import text as text_of

_BATCH_ROWS = 65_536
_WHOLE = r"^[ \t]*\+?(-?)0*([0-9]+)(\.0*)?[ \t]*$"
POSITION = "__position__"
"""int64: the entry's position in its row's list, from 0; only with `explode`."""


def split_fields(source: Source) -> frozenset[str]:
    """The columns that hold lists."""
    return frozenset(source.explode.columns if source.explode else ())


def apply(
    rows: pa.RecordBatch, source: Source, constants: Mapping[str, str]
) -> tuple[list[pa.RecordBatch], pa.RecordBatch | None]:
    """Applies them to a batch of raw rows.

    Args:
        rows: the batch, with the columns of `rows`.
        source: the source.
        constants: columns to add that have one value in the whole file.

    Returns:
        (batches, rejected): more batches only with `explode`; rejected rows are those whose lists do not fit, or None.
    """
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    for name, value in constants.items():
        columns[name] = _constant(value, rows.num_rows)
    rows = pa.RecordBatch.from_pydict(columns)
    if source.explode is None:
        return [_values(rows, source)], None
    batches, bad = _exploded(rows, source.explode)
    return [_values(batch, source) for batch in batches], bad


def _values(rows: pa.RecordBatch, source: Source) -> pa.RecordBatch:
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    for name in columns:
        if name in (PLACE, LINE, TEXT, POSITION):
            continue
        if name in source.integers:
            columns[name] = _map_texts(as_text(columns[name]), _whole)
        if source.null_values:
            columns[name] = _without_nulls(columns[name], source)
    if source.row_id is not None:
        places = rows.column(PLACE).cast(pa.string())
        if POSITION in columns:
            places = pc.binary_join_element_wise(places, columns[POSITION].cast(pa.string()), "-")
        columns[source.row_id] = as_text(places)
    return pa.RecordBatch.from_pydict(columns)


def _without_nulls(column: pa.Array, source: Source) -> pa.Array:
    """A column without the values that mean a missing one, whatever its type; of a list without such items."""
    kind = column.type
    if _holds_text(kind):
        nulls = pa.array(_null_texts(source.null_values, source.format != "delimited"), pa.string())
        return _map_texts(as_text(column), lambda texts: _blank(texts, nulls))
    if pa.types.is_list(kind):
        items = _without_nulls(column.flatten(), source)
        if _holds_text(items.type):
            items = decode(items)
            items = pc.if_else(pc.equal(items, ""), pa.scalar(None, items.type), items)
        lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
        return pa.ListArray.from_arrays(offsets, items, mask=column.is_null())
    if source.format == "delimited":
        return column  # numbers: their text has been compared when it was read
    missing = _typed_nulls(source.null_values, kind)
    if missing is None:
        return column
    return pc.if_else(pc.is_in(column, missing), pa.scalar(None, kind), column)


def _null_texts(null_values: tuple[str, ...], is_typed: bool) -> tuple[str, ...]:
    """The null values, and where a file has typed numbers, the text of those that are numbers: `-999` for `-999.0`."""
    if not is_typed:
        return null_values
    numbers = as_numbers(pa.array(null_values, pa.string()))[0]
    return (*null_values, *(text_of(number) for number in numbers[np.isfinite(numbers)].tolist()))


@lru_cache(maxsize=1000)
def _typed_nulls(null_values: tuple[str, ...], kind: pa.DataType) -> pa.Array | None:
    """The null values that a type has: `-999` among whole numbers. A value is equal to a text if it is written so."""
    values = []
    for text in null_values:
        try:
            value = pa.array([text.strip()]).cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            if not pa.types.is_integer(kind):
                continue
            number = pa.array(as_numbers(pa.array([text]))[0])  # `-999.0` is a whole number too
            if not np.isfinite(number[0].as_py()) or number[0].as_py() % 1:
                continue
            value = number.cast(kind, safe=False)
        # Arrow takes more texts for truth values than those that they are written as.
        if not pa.types.is_boolean(kind) or decode(as_text(value))[0].as_py() == text.strip():
            values.append(value)
    return pa.concat_arrays(values) if values else None


def _holds_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _map_texts(column: pa.DictionaryArray, change) -> pa.DictionaryArray:
    """Changes the distinct texts of a column; equal ones become one."""
    changed = change(column.dictionary)
    if changed.equals(column.dictionary):
        return column
    return pc.dictionary_encode(changed.take(column.indices)).cast(TEXT_TYPE)


def _whole(texts: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(texts, _WHOLE, r"\1\2")


def _blank(texts: pa.Array, nulls: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_in(pc.utf8_trim(texts, " \t"), nulls), "", texts)


def _constant(value: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value], pa.string()))


def _exploded(rows: pa.RecordBatch, rule: Explode) -> tuple[list[pa.RecordBatch], pa.RecordBatch | None]:
    lists = {name: _as_lists(rows.column(name), rule.separator) for name in rule.columns}
    lengths = np.stack([_lengths(values) for values in lists.values()])
    uneven = (lengths != lengths[0]).any(axis=0)
    wrong = uneven | (lengths[0] == 0)
    bad = None
    if wrong.any():
        where = np.flatnonzero(wrong)
        reasons = [
            f"explode has lists of different lengths: {' and '.join(map(str, lengths[:, row]))}"
            if uneven[row]
            else "explode has an empty list"
            for row in where.tolist()
        ]
        chosen = rows.take(pa.array(where))
        texts = chosen.column(TEXT).to_pylist() if TEXT in rows.schema.names else [b""] * len(where)
        bad = rejected(chosen.column(PLACE), chosen.column(LINE), reasons, texts)
    good = np.flatnonzero(~wrong)
    batches = []
    for part in _parts(good, lengths[0]):
        counts = lengths[0][part]
        parents = pa.array(np.repeat(part, counts))
        columns = {
            name: _repeated(rows.column(name), parents) for name in rows.schema.names if name not in lists
        }
        chosen_rows = pa.array(part)
        columns.update({name: values.take(chosen_rows).flatten() for name, values in lists.items()})
        starts = np.cumsum(counts) - counts
        position = np.arange(int(counts.sum())) - np.repeat(starts, counts)
        columns[POSITION] = pa.array(position)
        if rule.position is not None:
            columns[rule.position] = pa.array(position + 1)
        batches.append(pa.RecordBatch.from_pydict(columns))
    return batches, bad


def _parts(rows: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Consecutive rows whose entries make a batch of a bounded size; a row is never cut."""
    if not len(rows):
        return []
    batch = (np.cumsum(lengths[rows]) - 1) // _BATCH_ROWS
    return np.split(rows, np.flatnonzero(np.diff(batch)) + 1)


def _repeated(column: pa.Array, parents: pa.Array) -> pa.Array:
    if pa.types.is_binary(column.type):  # the text of a row: one copy, however many entries it has
        return column.dictionary_encode().take(parents)
    return column.take(parents)


def _as_lists(column: pa.Array, separator: str) -> pa.Array:
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return column
    texts = as_text(column)
    lists = pc.split_pattern(pc.utf8_trim_whitespace(texts.dictionary), separator)
    # The empty text is an empty list, not a list of one empty text.
    empty = pc.equal(pc.utf8_trim_whitespace(texts.dictionary), "")
    lists = pc.if_else(empty, pa.scalar(None, lists.type), lists)
    return lists.take(texts.indices)


def _lengths(lists: pa.Array) -> np.ndarray:
    return pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
