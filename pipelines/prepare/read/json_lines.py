"""JSON lines: one object a line.

Arrow's parser reads many lines at once, with lists and objects, if the result is the same as that of each line alone. It
guesses a type for each column and reads some texts as times, so we name the type of text columns. Lines whose columns mix
types, or have whole numbers beyond float64, are read one by one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from pipelines.prepare.read.columns import TEXT_TYPE
from pipelines.prepare.read.lines import MAX_LINE_BYTES, TOO_LONG, Lines
from pipelines.prepare.rows import FILE_SHIFT, LINE, PLACE, TEXT, rejected
from ranker.errors import UserError
from ranker.text import text as text_of

_EXACT_WHOLE = 2.0**53
_KEPT_BYTES = 4096


@dataclass(frozen=True)
class JsonFields:
    """Which fields of the objects are wanted.

    Attributes:
        paths: column to the keys that lead to its value.
        encoding: of the text.
    """

    paths: Mapping[str, tuple[str, ...]]
    encoding: str = "utf-8"


def discover(data: bytes) -> dict[str, tuple[str, ...]]:
    """The fields of the objects in some lines: `user.id` for a field of an object in a field."""
    paths: dict[str, tuple[str, ...]] = {}
    objects: set[str] = set()
    plain: set[str] = set()
    for line in data.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            _add_paths(value, (), paths, objects, plain)
    # Null in one line and an object in another, it has fields and no value.
    return {name: path for name, path in paths.items() if name in plain or name not in objects}


def _add_paths(
    value: Mapping[str, Any],
    above: tuple[str, ...],
    paths: dict[str, tuple[str, ...]],
    objects: set[str],
    plain: set[str],
) -> None:
    for key, inside in value.items():
        if isinstance(inside, dict):
            objects.add(".".join((*above, key)))
            _add_paths(inside, (*above, key), paths, objects, plain)
        else:
            plain.update([".".join((*above, key))] if inside is not None else [])
            paths.setdefault(".".join((*above, key)), (*above, key))


def parse(lines: Lines, fields: JsonFields, file: int) -> tuple[list[pa.RecordBatch], pa.RecordBatch | None]:
    """Reads lines.

    Args:
        lines: whole lines.
        fields: what is wanted of them.
        file: the file's index, part of every row's place.

    Returns:
        (rows, rejected), the latter None if there is none. Empty lines are in neither.
    """
    base = (file << FILE_SHIFT) + lines.place
    if lines.fault is not None:
        return [], rejected([base], [lines.line], [lines.fault], [lines.data])
    if not lines.data:
        return [], None
    ends = np.flatnonzero(np.frombuffer(lines.data, np.uint8) == 10)
    starts = np.append(0, ends[:-1] + 1)
    places = starts.astype(np.uint64) + np.uint64(base)
    offsets = pa.py_buffer(np.append(starts, len(lines.data)).astype(np.int32))
    texts = pa.BinaryArray.from_buffers(pa.binary(), len(starts), [None, offsets, pa.py_buffer(lines.data)])
    content = np.frombuffer(lines.data, np.uint8)
    last = np.where((ends > starts) & (content[ends - 1] == ord("\r")), ends - 2, ends - 1)
    # Nothing but whole objects: whatever follows a `}` at the end of one line, a `{` begins another object.
    is_regular = (ends - starts > 1) & (content[starts] == ord("{")) & (content[last] == ord("}"))
    is_regular &= ends - starts <= MAX_LINE_BYTES
    regular, odd = np.flatnonzero(is_regular), np.flatnonzero(~is_regular)
    data = lines.data if not len(odd) else texts.take(pa.array(regular)).buffers()[2].to_pybytes()
    columns = _read_together(data, len(regular), fields) if len(regular) else {}
    if columns is None:
        return _read_each(lines, texts, np.arange(len(starts)), places, fields)
    rows, bad = _read_each(lines, texts, odd, places, fields) if len(odd) else ([], None)
    if len(regular):
        line_numbers = pa.array(regular + lines.line)
        regular_texts = texts if not len(odd) else texts.take(pa.array(regular))
        origin = {PLACE: pa.array(places[regular]), LINE: line_numbers, TEXT: regular_texts}
        rows = [pa.RecordBatch.from_pydict({**columns, **origin}), *rows]
    return rows, bad


def _read_together(data: bytes, rows: int, fields: JsonFields) -> dict[str, pa.Array] | None:
    """All lines through Arrow's parser; None if that might give another result than each line alone."""
    if fields.encoding != "utf-8":
        return None
    keys = {path[0] for path in fields.paths.values()}
    try:
        data.decode("utf-8")
        guessed = _read(data, None)
        # Arrow takes some texts for times: those are read again as what they are.
        schema = pa.schema([pa.field(f.name, _as_written(f.type)) for f in guessed.schema if f.name in keys])
        has_times = any(guessed.schema.field(f.name).type != f.type for f in schema)
        table = _read(data, schema) if has_times else guessed
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
        return None
    if table.num_rows != rows:
        return None
    columns = {}
    for name, path in fields.paths.items():
        column = _at(table, path)
        if column is None or not _is_plain(column):
            return None
        if column.type == pa.list_(pa.null()):
            column = column.cast(pa.list_(pa.string()))
        is_text = pa.types.is_string(column.type) or pa.types.is_null(column.type)
        columns[name] = column.cast(pa.string()).dictionary_encode().cast(TEXT_TYPE) if is_text else column
    return columns


def _at(table: pa.Table, path: Sequence[str]) -> pa.Array | None:
    """The values at the end of a path, null where it ends early; None if it leads through something else than objects."""
    if path[0] not in table.schema.names:
        return pa.nulls(table.num_rows)
    column = table[path[0]].combine_chunks()
    for key in path[1:]:
        if pa.types.is_null(column.type):
            return column
        if not pa.types.is_struct(column.type):
            return None
        if column.type.get_field_index(key) < 0:
            return pa.nulls(table.num_rows)
        column = pc.struct_field(column, key)
    return column


def _as_written(kind: pa.DataType) -> pa.DataType:
    """A type with text in place of the times that it holds."""
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _as_written(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_as_written(kind.value_type))
    return pa.string() if pa.types.is_temporal(kind) else kind


def _is_plain(column: pa.Array) -> bool:
    """Whether values are read alike together and line by line: no objects, and no whole number beyond float64."""
    kind = column.type
    if pa.types.is_list(kind):
        return not pa.types.is_list(kind.value_type) and _is_plain(column.flatten())
    if pa.types.is_floating(kind):
        largest = pc.max(pc.abs(column)).as_py()
        return largest is None or largest < _EXACT_WHOLE
    simple = (pa.types.is_string, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    return any(is_type(kind) for is_type in simple)


def _read(data: bytes, schema: pa.Schema | None) -> pa.Table:
    return pa.json.read_json(
        io.BytesIO(data),
        pa.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
        pa.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore" if schema else "infer"
        ),
    )


def _read_each(
    lines: Lines, texts: pa.BinaryArray, chosen_lines: np.ndarray, places: np.ndarray, fields: JsonFields
) -> tuple[list[pa.RecordBatch], pa.RecordBatch | None]:
    good: list[int] = []
    values: list[list[Any]] = []
    bad: list[int] = []
    reasons: list[str] = []
    chosen_texts = texts.take(pa.array(chosen_lines)).to_pylist()
    for index, line in zip(chosen_lines.tolist(), chosen_texts, strict=True):
        if not line.strip():
            continue
        try:
            values.append(_row(line, fields))
            good.append(index)
        except ValueError as error:
            bad.append(index)
            reasons.append(str(error))
    # Rows with lists in the same columns go together: beside a list, a single value would be taken for a list of one.
    by_lists: dict[tuple[bool, ...], list[int]] = {}
    for at, row in enumerate(values):
        by_lists.setdefault(tuple(isinstance(value, list) for value in row), []).append(at)
    rows = []
    for members in by_lists.values():
        columns = {
            name: _column([values[at][column] for at in members]) for column, name in enumerate(fields.paths)
        }
        chosen = np.array([good[at] for at in members])
        columns[PLACE] = pa.array(places[chosen])
        columns[LINE] = pa.array(chosen + lines.line)
        columns[TEXT] = texts.take(pa.array(chosen))
        rows.append(pa.RecordBatch.from_pydict(columns))
    if not bad:
        return rows, None
    where = np.array(bad)
    shown = [texts[index].as_py()[:_KEPT_BYTES] for index in bad]
    return rows, rejected(places[where], where + lines.line, reasons, shown)


def _row(line: bytes, fields: JsonFields) -> list[Any]:
    """The wanted values of one line. Raises a ValueError that says why there are none."""
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(TOO_LONG)
    try:
        tree = json.loads(line.decode(fields.encoding))
    except UnicodeDecodeError:
        raise ValueError(f"is not {fields.encoding} text") from None
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"is not a JSON object: {reason}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"is not a JSON object: it is {_kind(tree)}")
    return [_value(tree, name, path) for name, path in fields.paths.items()]


def _value(tree: Any, name: str, path: Sequence[str]) -> Any:
    for key in path:
        if tree is None:
            return None
        if not isinstance(tree, dict):
            raise ValueError(f"{name} has no field {key!r}: it is {_kind(tree)}")
        tree = tree.get(key)
    if tree is None:
        return None
    if isinstance(tree, dict):
        raise ValueError(
            f"{name} is an object; name one of its fields, such as {name}.{next(iter(tree), 'id')}"
        )
    if isinstance(tree, list):
        items = [None if isinstance(item, (dict, list)) else _text(item) for item in tree]
        if any(isinstance(item, (dict, list)) for item in tree):
            raise ValueError(
                f"{name} is a list of {_kind(next(i for i in tree if isinstance(i, (dict, list))))}s"
            )
        return items
    return _text(tree)


def _text(value: Any) -> str | None:
    try:
        return None if value is None else text_of(value)
    except UserError as error:
        raise ValueError(str(error)) from None


def _column(values: list[Any]) -> pa.Array:
    if values and isinstance(values[0], list):
        return pa.array(values, pa.list_(pa.string()))
    return pa.array(values, pa.string()).dictionary_encode().cast(TEXT_TYPE)


def _kind(value: Any) -> str:
    return {dict: "object", list: "list", str: "text", bool: "truth value", type(None): "null"}.get(
        type(value), "number"
    )
