"""Columns of raw values to the arrays that a signature takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from ranker.errors import UserError
from ranker.text import texts
from serving.client.answers import Signature, TensorSpec

_NUMERIC = {
    "DT_FLOAT": np.float32,
    "DT_DOUBLE": np.float64,
    "DT_INT32": np.int32,
    "DT_INT64": np.int64,
    "DT_BOOL": np.bool_,
}


def to_arrays(
    rows: Mapping[str, Any], signature: Signature | None, separators: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """Returns each column as the array its input takes, text or numbers.

    With a signature its types decide: values given for a text input become their text (see `ranker.text`), None becomes
    empty text or NaN. Without one the values decide: text stays text, numbers become float32.

    Args:
      rows: name to values.
      signature: whose inputs take them.
      separators: of multivalued features, what joins the items of a list.

    Raises:
      UserError: no column, a column that is not a sequence, a value that has no text, or is no
        finite number where numbers are due.
    """
    if not rows:
        raise UserError("rows must have at least one column. Received: none")
    dtypes = {name: spec.dtype for name, spec in signature.inputs.items()} if signature else {}
    return {
        name: _convert(name, values, dtypes.get(name, ""), (separators or {}).get(name))
        for name, values in rows.items()
    }


def scoring_inputs(
    rows: Mapping[str, Any],
    signature: Signature | None,
    item: str,
    separators: Mapping[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """Returns the inputs of a call that scores rows.

    A model with one numeric input that is no column takes all columns but the item's, in their order, as a matrix. Else
    each column is an input; the item's is left out where the model has no such input.

    Args:
      rows: name to values, of one length.
      signature: what the model takes; None, or without inputs: not known.
      item: the feature that identifies a candidate.
      separators: of multivalued features, what joins the items of a list.

    Raises:
      UserError: as `to_arrays`, or the model takes another number of columns.
    """
    inputs = signature.inputs if signature else {}
    name, spec = next(iter(inputs.items()), ("", TensorSpec("", None)))
    if len(inputs) == 1 and name not in rows and spec.dtype in _NUMERIC:
        columns = {key: values for key, values in rows.items() if key != item}
        width = spec.shape[-1] if spec.shape and len(spec.shape) > 1 else -1
        if not columns or width not in (-1, len(columns)):
            raise UserError(
                f"input `{name}` must get {width} columns. Received: {len(columns)} ({', '.join(columns)})"
            )
        return {
            name: np.stack(
                [_convert(key, values, spec.dtype, None) for key, values in columns.items()], axis=1
            )
        }
    if inputs and item not in inputs:
        rows = {key: values for key, values in rows.items() if key != item}
    return shaped(to_arrays(rows, signature, separators), signature)


def shaped(arrays: Mapping[str, np.ndarray], signature: Signature | None) -> dict[str, np.ndarray]:
    """Returns columns [rows] as [rows, 1] where the signature's input has two dimensions."""
    specs = signature.inputs if signature else {}
    return {
        name: values[:, None] if name in specs and len(specs[name].shape or ()) == 2 else values
        for name, values in arrays.items()
    }


def check_features(names: Iterable[str], signature: Signature | None) -> None:
    """Checks that a signature has all features.

    Raises:
      UserError: it lacks one.
    """
    for name in names:
        if signature and signature.inputs and name not in signature.inputs:
            raise UserError(
                f"the model has no feature {name!r}; it has {', '.join(sorted(signature.inputs))}"
            )


def missing(signature: Signature | None, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the inputs that are not among `names`, as columns of one missing value: empty text, NaN, 0 for integers."""
    absent = {}
    for name, spec in signature.inputs.items() if signature else ():
        if name not in names:
            is_text = spec.dtype == "DT_STRING"
            kind = _NUMERIC.get(spec.dtype, np.float32)
            value = math.nan if issubclass(kind, np.floating) else 0
            absent[name] = np.array([""], object) if is_text else np.array([value], kind)
    return absent


def length(arrays: Mapping[str, np.ndarray]) -> int:
    """Returns the columns' common length.

    Raises:
      UserError: they have none, or no rows.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise UserError(f"the columns of one request must have the same length. Received: {lengths}")
    return next(iter(lengths.values()))


def check_mapping(values: Any, name: str) -> None:
    """Checks that columns are given by name.

    Raises:
      UserError: they are not, or a name is not text.
    """
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{name} must be a mapping of feature names to values. Received: {repr(values)[:80]}")


def as_context(context: Mapping[str, Any], separators: Mapping[str, str]) -> dict[str, Any]:
    """Returns a context's values as columns of one row; a sequence of one value is taken as it is.

    Raises:
      UserError: a value is a longer sequence, and the feature is not multivalued.
    """
    columns: dict[str, Any] = {}
    for name, value in context.items():
        is_items = name in separators and _is_sequence(value) and not holds_lists(value)
        columns[name] = value if _is_sequence(value) and not is_items else [value]
        if len(columns[name]) != 1:
            raise UserError(f"context `{name}` must have one value. Received: {len(columns[name])}")
    return columns


def holds_lists(values: Any) -> bool:
    """Whether a column has lists for values."""
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return values.ndim > 1
    return _is_sequence(values) and any(map(_is_sequence, values))


def has_items(value: Any) -> bool:
    """Whether a context's value is a list of items, or a column of one such list."""
    return _is_sequence(value) and (len(value) != 1 or holds_lists(value))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _convert(name: str, values: Any, dtype: str, separator: str | None) -> np.ndarray:
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray)):
        if not hasattr(values, "__array__"):
            raise UserError(f"column `{name}` must be a sequence of values. Received: {repr(values)[:80]}")
        values = np.asarray(values)
    if isinstance(values, np.ndarray) and values.ndim == 0:
        raise UserError(f"column `{name}` must be a sequence of values. Received: {values!r}")
    if dtype in _NUMERIC:
        return _numbers(name, values, _NUMERIC[dtype])
    if dtype == "DT_STRING" or _holds_text(values):
        return texts(values, separator, f"column `{name}`")
    return _numbers(name, values, np.float32)


def _holds_text(values: Any) -> bool:
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return values.dtype.kind in "SU"
    return any(isinstance(value, (str, bytes)) for value in values)


def _numbers(name: str, values: Any, dtype: type[np.generic]) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        values = [_number(name, value) for value in values]
    array = np.asarray(values)
    if array.ndim != 1:
        raise UserError(f"column `{name}` must hold numbers. Received: {list(values)[:3]}")
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = array.astype(dtype)
    if issubclass(dtype, np.floating):
        wrong = np.isinf(numbers)
        rule = "finite numbers, NaN or None where missing"
    else:
        wrong = numbers != array
        rule = f"numbers of {np.dtype(dtype)}"
    if wrong.any():
        raise UserError(f"column `{name}` must hold {rule}. Received: {array[wrong][0]}")
    return numbers


def _number(name: str, value: Any) -> Any:
    """A number as prepared data have it: None and empty text are missing, a time is its seconds since 1970."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return math.nan
    if isinstance(value, np.datetime64):
        return math.nan if np.isnat(value) else value.astype("datetime64[us]").astype(np.int64) * 1e-6
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    if isinstance(value, (int, np.integer)) and abs(int(value)) < 2**63:
        return int(value)
    if isinstance(value, (str, bytes)) and not value.strip():
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"column `{name}` must hold numbers. Received: {repr(value)[:80]}") from None
