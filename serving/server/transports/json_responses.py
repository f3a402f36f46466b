"""Arrays and results to the JSON of TF Serving's REST API.

A float32 is written with the fewest digits that read back to it. NaN and infinities are written as `NaN`,
`Infinity`, `-Infinity`, as TF Serving and Python's `json` both do.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.server.requests.tensors import short_dtype_name
from serving.status import invalid


def json_text(value: Any) -> str:
    """A parsed JSON value as it appears in error texts (indented by four)."""
    return json.dumps(value, indent=4, ensure_ascii=False)


def error_body(message: str) -> bytes:
    """`{"error": message}`."""
    return (json.dumps({"error": message}, indent=4) + "\n").encode()


def predictions(outputs: Mapping[str, np.ndarray], row_form: bool) -> bytes:
    """The answer to a Predict: `predictions` (one element a row) or `outputs` (one a tensor).

    With a single output its name is dropped. Bytes whose alias ends in `_bytes` are written as base64.

    Raises:
        StatusError: INVALID_ARGUMENT if rows are asked for and an output has none, or another number
            of them; or if an output's dtype has no JSON form.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    if row_form:
        _check_rows(outputs)
    values = {name: _values(name, outputs[name]) for name in sorted(outputs)}
    if len(values) == 1:
        [document] = values.values()
    elif row_form:
        document = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    else:
        document = values
    return _encode({"predictions" if row_form else "outputs": document})


def classification_results(result: Any) -> bytes:
    """The answer to a Classify: for each example, [label, score] pairs."""
    if not result.classifications:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    rows = []
    for entry in result.classifications:
        scores = float32_values(np.array([label.score for label in entry.classes], np.float32))
        rows.append([[label.label, score] for label, score in zip(entry.classes, scores, strict=True)])
    return _encode({"results": rows})


def regression_results(result: Any) -> bytes:
    """The answer to a Regress: one number for each example."""
    if not result.regressions:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    values = np.array([entry.value for entry in result.regressions], np.float32)
    return _encode({"results": float32_values(values)})


def float32_values(array: np.ndarray) -> Any:
    """A float32 array as (nested) Python floats that print with the fewest digits.

    >>> float32_values(np.array([0.1, 1 / 3, 9e6, 3], np.float32))
    [0.1, 0.33333334, 9000000.0, 3.0]
    """
    return array.astype(np.str_).astype(np.float64).tolist()


def _encode(document: Any) -> bytes:
    # surrogateescape: a string output that is not UTF-8 is passed on as the bytes it is.
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _check_rows(outputs: Mapping[str, np.ndarray]) -> None:
    batch = -1
    for name in sorted(outputs):
        array = outputs[name]
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch >= 0 and len(array) != batch:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}")
        batch = len(array)


def _values(name: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        return _strings(array.tolist(), as_base64=name.endswith("_bytes"))
    if array.dtype.kind in "iub" or array.dtype == np.float64:
        return array.tolist()
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return float32_values(array.astype(np.float32))
    raise invalid(f"Failed to write JSON value for tensor type: {short_dtype_name(array.dtype)}")


def _strings(value: Any, as_base64: bool) -> Any:
    if isinstance(value, list):
        return [_strings(element, as_base64) for element in value]
    if as_base64:
        return {"b64": base64.b64encode(value).decode()}
    return value.decode("utf-8", "surrogateescape")
