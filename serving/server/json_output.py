"""Arrays and results to JSON text, digit for digit as TF Serving writes them.

A float is written with six digits if that reads back to the same number, else with as many as always do
(9 for float32, 17 for float64), and always with a point or an exponent, so that a client sees a number
with decimals. NaN and infinities are written as `NaN`, `Infinity`, `-Infinity`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from serving.server.tensors import DTYPE_ENUM
from serving.server.type_names import short_dtype_name
from serving.status import invalid


def decimal(value: float, single: bool = False) -> str:
    """One float.

    >>> decimal(3.0), decimal(1 / 3), decimal(np.float32(0.1), single=True), decimal(9e6), decimal(math.nan)
    ('3.0', '0.33333333333333331', '0.1', '9e+06', 'NaN')
    """
    value = float(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    text = f"{value:g}"
    same = np.float32(text) == np.float32(value) if single else float(text) == value
    if not same:
        text = f"{value:.9g}" if single else f"{value:.17g}"
    return text if "." in text or "e" in text else text + ".0"


def json_text(value: Any) -> str:
    """A parsed JSON value as it appears in error texts (indented by four)."""
    if isinstance(value, float):
        return decimal(value)
    return json.dumps(value, indent=4, ensure_ascii=False, sort_keys=False)


def error_body(message: str) -> bytes:
    """`{"error": message}`."""
    return (json.dumps({"error": message}, indent=4) + "\n").encode()


def predictions(outputs: Mapping[str, np.ndarray], row_form: bool) -> bytes:
    """The answer to a Predict: `predictions` (one element a row) or `outputs` (one a tensor).

    With a single output its name is dropped. Bytes whose alias ends in `_bytes` are written as base64.

    Raises:
        ServingError: INVALID_ARGUMENT if rows are asked for and an output has none, or another number
            of them; or if an output's dtype has no JSON form.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    if not row_form:
        texts = {name: _nested(outputs[name], _writer(name, outputs[name])) for name in sorted(outputs)}
        if len(texts) == 1:
            body = next(iter(texts.values()))
        else:
            fields = ",\n".join(f"        {json.dumps(name)}: {text}" for name, text in texts.items())
            body = "{\n" + fields + "\n    }"
        return _encode('{\n    "outputs": ' + body + "\n}")
    batch = -1
    for name in sorted(outputs):
        array = outputs[name]
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch >= 0 and len(array) != batch:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}")
        batch = len(array)
    rows = {name: _rows(outputs[name], _writer(name, outputs[name])) for name in sorted(outputs)}
    if len(rows) == 1:
        body = ", ".join(next(iter(rows.values())))
    else:
        body = ",".join(
            "\n        {\n"
            + ",\n".join(f"            {json.dumps(name)}: {texts[row]}" for name, texts in rows.items())
            + "\n        }"
            for row in range(batch)
        )
    return _encode('{\n    "predictions": [' + body + "\n    ]\n}")


def classification_results(result: Any) -> bytes:
    """The answer to a Classify: for each example, [label, score] pairs."""
    if not result.classifications:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    rows = [
        "[" + ", ".join(f"[{json.dumps(c.label)}, {decimal(c.score, True)}]" for c in entry.classes) + "]"
        for entry in result.classifications
    ]
    return _encode('{\n    "results": [' + ", ".join(rows) + "\n    ]\n}")


def regression_results(result: Any) -> bytes:
    """The answer to a Regress: one number for each example."""
    if not result.regressions:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    values = ", ".join(decimal(entry.value, True) for entry in result.regressions)
    return _encode('{\n    "results": [' + values + "\n    ]\n}")


def _encode(text: str) -> bytes:
    # surrogateescape: a string output that is not UTF-8 is passed on as the bytes it is.
    return text.encode("utf-8", "surrogateescape")


def _writer(name: str, array: np.ndarray) -> Callable[[Any], str]:
    kind = array.dtype.kind
    if array.dtype == object:
        if name.endswith("_bytes"):
            return lambda value: '{\n"b64": "' + base64.b64encode(value).decode() + '"\n}'
        return lambda value: json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False)
    if kind == "f" and array.dtype.itemsize == 8:
        return decimal
    if kind == "f" or array.dtype.name == "bfloat16":
        return lambda value: decimal(value, True)
    if kind in "iu":
        return str
    if kind == "b":
        return lambda value: "true" if value else "false"
    raise invalid(
        f"Failed to write JSON value for tensor type: {short_dtype_name(DTYPE_ENUM.get(array.dtype, 0))}"
    )


def _nested(array: np.ndarray, write: Callable[[Any], str]) -> str:
    return _join(array.tolist(), array.ndim, write)


def _rows(array: np.ndarray, write: Callable[[Any], str]) -> Sequence[str]:
    return [_join(row, array.ndim - 1, write) for row in array.tolist()]


def _join(value: Any, depth: int, write: Callable[[Any], str]) -> str:
    if depth == 0:
        return write(value)
    if depth == 1:
        return "[" + ", ".join(map(write, value)) + "]"
    return "[" + ", ".join(_join(element, depth - 1, write) for element in value) + "]"
