"""Columns of raw values to the arrays that a signature takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ranker.errors import UserError
from ranker.text import texts
from serving.client.answers import Signature

_NUMERIC = {
    "DT_FLOAT": np.float32,
    "DT_DOUBLE": np.float64,
    "DT_INT32": np.int32,
    "DT_INT64": np.int64,
    "DT_BOOL": np.bool_,
}


def to_arrays(rows: Mapping[str, Any], signature: Signature | None) -> dict[str, np.ndarray]:
    """Returns each column as the array its input takes, text or numbers.

    With a signature its types decide: numbers given for a text input become their text (7 and 7.0 both
    become "7"), None becomes empty text or NaN. Without one the values decide: text stays text, numbers
    become float32.

    Raises:
      UserError: no column, a column that is not a sequence or not of the others' length, a value that is
        no number where numbers are due.
    """
    if not rows:
        raise UserError("rows must have at least one column. Received: none")
    arrays = {
        name: _convert(
            name, values, signature.inputs[name].dtype if signature and name in signature.inputs else ""
        )
        for name, values in rows.items()
    }
    return arrays


def length(arrays: Mapping[str, np.ndarray]) -> int:
    """Returns the columns' common length.

    Raises:
      UserError: they have none.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise UserError(f"the columns of one request must have the same length. Received: {lengths}")
    return next(iter(lengths.values()))


def as_columns(context: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a context's values as columns of one row; a sequence of one value is taken as it is.

    Raises:
      UserError: a value is a longer sequence.
    """
    columns: dict[str, Any] = {}
    for name, value in context.items():
        is_column = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)
        columns[name] = value if is_column else [value]
        if len(columns[name]) != 1:
            raise UserError(f"context `{name}` must have one value. Received: {len(columns[name])}")
    return columns


def _convert(name: str, values: Any, dtype: str) -> np.ndarray:
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray)):
        if not hasattr(values, "__array__"):
            raise UserError(f"column `{name}` must be a sequence of values. Received: {values!r}")
        values = np.asarray(values)
    if isinstance(values, np.ndarray) and values.ndim == 0:
        raise UserError(f"column `{name}` must be a sequence of values. Received: {values!r}")
    if dtype in _NUMERIC:
        return _numbers(name, values, _NUMERIC[dtype])
    if dtype == "DT_STRING" or _holds_text(values):
        return texts(values, name=f"column `{name}`")
    return _numbers(name, values, np.float32)


def _holds_text(values: Any) -> bool:
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return values.dtype.kind in "SU"
    return any(isinstance(value, (str, bytes)) for value in values)


def _numbers(name: str, values: Any, dtype: type[np.generic]) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.dtype.kind == "O":
        values = [math.nan if value is None else value for value in values]
    try:
        return np.asarray(values).astype(dtype)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"column `{name}` must hold numbers ({error}). Received: {list(values)[:3]}"
        ) from None
