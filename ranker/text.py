"""The text of a value: one rule for log files, requests, the command line and the monitor. Loads nothing heavy.

A categorical feature is text. A CSV file has its values as text, Parquet and NumPy have integers or floating-point numbers,
and pandas has timestamps. One value must have the same text from every source:

- missing (None, NaN, NaT, pandas' NA, an infinite number): the empty text.
- text: itself, not stripped. Bytes: their UTF-8, with U+FFFD for what is not UTF-8.
- truth values: `true`, `false`.
- numbers: the shortest decimal that reads back as the same number of its type, without exponent and without a fraction of
  zeros. So 7, 7.0 and Decimal("7.00") are `7`, 1e-5 is `0.00001`, 1e16 is `10000000000000000`, float32 0.1 is `0.1`.
- dates: `2024-01-31`. Times: `2024-01-31 23:59:59.5`, the fraction without trailing zeros; with a time zone, in UTC with a
  `Z`. Times of day: `23:59:59.5`. Durations: their seconds as a number.
- lists (of a multivalued feature): the items' texts joined by the feature's separator; missing items are left out. An item
  that holds the separator, and a list without a separator, are refused.

`text` is the rule for one value and `texts` for a column. `arrow_texts` is the same rule for an Arrow column, vectorised.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_UNIT_EXPONENTS = {"s": 0, "ms": -3, "us": -6, "ns": -9}
_EXACT_WHOLE = 2.0**53
_TRAILING_ZEROS = r"\.0+$|(\.\d*[1-9])0+$"


def text(value: Any, separator: str | None = None, name: str = "a value") -> str:
    """The text of one value; empty if the value is missing.

    Args:
        value: a scalar of Python, NumPy, pandas or Arrow, or a list of scalars.
        separator: what joins the items of a list; None: the feature has one value, and a list is refused.
        name: the feature, for errors.

    Raises:
        UserError: the value is of another kind, or a list that cannot be joined.

    >>> text(7.0), text(np.float32(0.1)), text(1e-5), text(True), text(float("nan")), text(["a", 2.0], "|")
    ('7', '0.1', '0.00001', 'true', '', 'a|2')
    """
    if isinstance(value, str):
        return _unicode(value)
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return _joined(value, separator, name)
    return _scalar(value, name)


def texts(values: Iterable[Any], separator: str | None = None, name: str = "a value") -> NDArray[np.object_]:
    """The texts of a column's values, object [n]. Arguments and errors as `text`."""
    listed = (
        list(map(str, values)) if _is_whole(values) else [text(value, separator, name) for value in values]
    )
    column = np.empty(len(listed), object)
    column[:] = listed
    return column


def arrow_texts(column: pa.Array, separator: str | None = None) -> pa.Array:
    """The texts of an Arrow column of any type, string [n], null where missing (or empty, for a list).

    It refuses nothing: lists whose text `text` refuses are those of `refused_lists`; here they are joined all the same,
    by `|` if there is no separator.

    Raises:
        UserError: the column's type has no text, for example a struct.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.UuidType):
        return arrow_texts(column.storage, separator)
    if pa.types.is_dictionary(kind):
        return arrow_texts(column.dictionary, separator).take(column.indices)
    if _is_list(kind):
        return _arrow_joined(column, separator or "|")
    if pa.types.is_floating(kind):
        return _arrow_floats(column)
    if pa.types.is_timestamp(kind):
        moments = (
            column.cast(pa.timestamp(kind.unit, "UTC")).cast(pa.timestamp(kind.unit)) if kind.tz else column
        )
        trimmed = pc.replace_substring_regex(moments.cast(pa.string()), _TRAILING_ZEROS, r"\1")
        return pc.binary_join_element_wise(trimmed, "Z", "") if kind.tz else trimmed
    if pa.types.is_time(kind):
        return pc.replace_substring_regex(column.cast(pa.string()), _TRAILING_ZEROS, r"\1")
    if pa.types.is_duration(kind):
        exponent = _UNIT_EXPONENTS[kind.unit]
        return _by_distinct(column.cast(pa.int64()), lambda count: _decimal(Decimal(count).scaleb(exponent)))
    simple = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_date, pa.types.is_null)
    if any(is_type(kind) for is_type in simple) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    if str(kind) == "string_view":
        return column.cast(pa.string())
    return _by_distinct(column, text)


def refused_lists(column: pa.Array, separator: str | None) -> NDArray[np.bool_]:
    """The rows whose list `text` refuses, bool [n]: an item holds the separator, or there is no separator."""
    import pyarrow.compute as pc

    if not _is_list(column.type):
        return np.zeros(len(column), bool)
    if separator is None:
        return column.is_valid().to_numpy(zero_copy_only=False)
    holds = pc.match_substring(arrow_texts(column.flatten(), separator), separator).fill_null(False)
    rows = pc.list_parent_indices(column).filter(holds)
    refused = np.zeros(len(column), bool)
    refused[rows.to_numpy()] = True
    return refused


def _scalar(value: Any, name: str) -> str:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)) and not isinstance(value, np.timedelta64):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return _float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return _trimmed(value.isoformat(" "))
        return _trimmed(value.astimezone(timezone.utc).replace(tzinfo=None).isoformat(" ")) + "Z"
    if isinstance(value, (date, time)):
        return _trimmed(value.isoformat())
    if isinstance(value, timedelta):
        return _decimal(Decimal(value // timedelta(microseconds=1)).scaleb(-6))
    if isinstance(value, np.datetime64):
        return _datetime64(value)
    if isinstance(value, np.timedelta64):
        return "" if np.isnat(value) else _decimal(_seconds(value, name))
    if isinstance(value, uuid.UUID):
        return str(value)
    if hasattr(value, "as_py"):  # an Arrow scalar, whose own conversion loses nanoseconds
        import pyarrow as pa

        return arrow_texts(pa.array([value], value.type))[0].as_py() or ""
    if hasattr(value, "__array__") and np.ndim(value) == 0:
        inside = np.asarray(value)[()]
        if not hasattr(inside, "__array__") or isinstance(inside, np.generic):
            return text(inside, name=name)
    raise UserError(
        f"{name} must be text, a number, a truth value, a time or a list of these. Received: {repr(value)[:80]}"
    )


def _joined(values: Iterable[Any], separator: str | None, name: str) -> str:
    if separator is None:
        raise UserError(f"{name} must be one value, for it is not multivalued. Received: {repr(values)[:80]}")
    items = [_unicode(value) if isinstance(value, str) else _scalar(value, name) for value in values]
    for item in items:
        if separator in item:
            raise UserError(
                f"{name}: an item of a list must not hold the separator {separator!r}. Received: {item[:80]!r}"
            )
    return separator.join(item for item in items if item)


def _unicode(value: str) -> str:
    value = str.__str__(value)
    if value.isascii():
        return value
    # A lone surrogate is no UTF-8: no file could have held it.
    return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _float(value: float | np.floating) -> str:
    if not math.isfinite(value):
        return ""
    if value == math.floor(value):
        return str(int(value))
    return np.format_float_positional(value, trim="-")


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        return ""
    return _trimmed(f"{value:f}") if value else "0"


def _trimmed(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _datetime64(value: np.datetime64) -> str:
    if np.isnat(value):
        return ""
    unit, _ = np.datetime_data(value)
    value = value.astype("datetime64[D]" if unit in ("Y", "M", "W") else value.dtype)
    value = value.astype("datetime64[s]") if unit in ("h", "m") else value
    return _trimmed(str(np.datetime_as_string(value)).replace("T", " "))


def _seconds(value: np.timedelta64, name: str) -> Decimal:
    unit, count = np.datetime_data(value)
    if unit in _UNIT_EXPONENTS:
        return Decimal(int(value.astype(np.int64)) * count).scaleb(_UNIT_EXPONENTS[unit])
    if unit not in ("W", "D", "h", "m"):
        raise UserError(f"{name}: a duration must be of weeks, days, hours, ... or ns. Received: {value!r}")
    return Decimal(int(value.astype("timedelta64[s]").astype(np.int64)))


def _is_whole(values: Iterable[Any]) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind in "iu"


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _arrow_joined(column: pa.Array, separator: str) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    items = arrow_texts(column.flatten(), separator).fill_null("")
    is_present = pc.not_equal(items, "")
    rows = pc.list_parent_indices(column).filter(is_present).to_numpy()
    lengths = np.bincount(rows.astype(np.int64), minlength=len(column))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), items.filter(is_present))
    return pc.if_else(pa.array(lengths > 0), pc.binary_join(lists, separator), pa.scalar(None, pa.string()))


def _arrow_floats(column: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_float16(column.type):  # which Arrow neither compares nor encodes
        halves = texts(column.to_numpy(zero_copy_only=False))
        return pa.array([value or None for value in halves], pa.string())
    column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
    whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), _EXACT_WHOLE))
    digits = pc.if_else(whole, column, pa.scalar(0, column.type)).cast(pa.int64()).cast(pa.string())
    column_texts = pc.if_else(whole, digits, column.cast(pa.string()))
    has_exponent = pc.match_substring(column_texts, "e").fill_null(False)
    if not pc.any(has_exponent).as_py():
        return column_texts
    return pc.replace_with_mask(column_texts, has_exponent, _by_distinct(column.filter(has_exponent), text))


def _by_distinct(column: pa.Array, rule: Any) -> pa.Array:
    import pyarrow as pa

    try:
        encoded = column.dictionary_encode()
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        raise UserError(
            f"a column must hold text, numbers, truth values, times or lists of these. Received: {column.type}"
        ) from None
    values = encoded.dictionary
    # NumPy keeps the width of a floating-point number, which decides its shortest text.
    scalars = (
        values.to_numpy(zero_copy_only=False) if pa.types.is_floating(values.type) else values.to_pylist()
    )
    return pa.array([rule(value) for value in scalars], pa.string()).take(encoded.indices)
