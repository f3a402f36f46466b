"""JSON request bodies to arrays and tf.Examples, by TF Serving's rules for the REST API.

Both forms of Predict: "instances" (a list of rows) and "inputs" (a list of values by name). A JSON value
must fit the signature's dtype without loss; `{"b64": "..."}` stands for bytes. Bytes of a body that are not
UTF-8 stand in its strings as surrogates, and come out as the bytes they were.

Source: TF Serving's json_tensor (rules and error texts).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from serving.server.requests.signatures import SignatureTensor
from serving.server.requests.tensors import STRING, shape_text, short_dtype_name
from serving.server.transports.json_responses import json_text
from serving.status import Code, StatusError, invalid
from serving.wire import Example, Feature, Input

_FLOATS: dict[int, tuple[np.dtype[Any], int, float]] = {
    1: (np.dtype("f4"), 2**24 - 1, float(np.finfo("f4").max)),
    2: (np.dtype("f8"), 2**53 - 1, math.inf),
}
_INTEGERS: dict[int, tuple[np.dtype[Any], int, int]] = {
    3: (np.dtype("i4"), -(2**31), 2**31 - 1),
    4: (np.dtype("u1"), -(2**31), 2**31 - 1),
    5: (np.dtype("i2"), -(2**31), 2**31 - 1),
    6: (np.dtype("i1"), -(2**31), 2**31 - 1),
    17: (np.dtype("u2"), -(2**31), 2**31 - 1),
    9: (np.dtype("i8"), -(2**63), 2**63 - 1),
    22: (np.dtype("u4"), 0, 2**32 - 1),
    23: (np.dtype("u8"), 0, 2**64 - 1),
}

_FEATURE_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}
_MAYBE_TOO_BIG = re.compile(r"[eE]\+?\d{3}|\d{300}")
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F])|.)", re.DOTALL)


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a request body.

    Raises:
        StatusError: INVALID_ARGUMENT if it is not JSON or not an object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    text = body.decode("utf-8-sig", "surrogateescape")
    # Python reads a number beyond a double as infinity, TF Serving calls it a mistake.
    hooks: dict[str, Any] = {}
    if _MAYBE_TOO_BIG.search(text) is not None:
        hooks = {"parse_float": _parse_finite, "parse_int": _parse_finite_integer}
    try:
        document = json.loads(text, **hooks)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg}") from None
    except (RecursionError, ValueError) as error:  # too deep, or an integer of thousands of digits
        raise invalid(f"JSON Parse error: {error}") from None
    if "\\u" in text and any(match[1] for match in _ESCAPE.finditer(text)):
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.")
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {json_text(document)} Is not object")
    return document


def signature_name(document: Mapping[str, Any]) -> str:
    """The optional `signature_name`.

    Raises:
        StatusError: INVALID_ARGUMENT if it is not a string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {json_text(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def predict_inputs(
    document: Mapping[str, Any], specs: Mapping[str, SignatureTensor]
) -> tuple[dict[str, np.ndarray], bool]:
    """The input arrays of a Predict body.

    Args:
        document: the parsed body.
        specs: the signature's inputs.

    Returns:
        Arrays by alias, and whether the body was in row form ("instances").

    Raises:
        StatusError: INVALID_ARGUMENT with what is wrong and where.
    """
    has_instances, has_inputs = "instances" in document, "inputs" in document
    if has_instances and has_inputs:
        raise invalid(
            f"JSON Value: {json_text(document)} Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist "
        )
    if has_instances:
        rows = document["instances"]
        if not isinstance(rows, list):
            raise invalid(f"JSON Value: {json_text(document)} Excepting 'instances' to be an list/array")
        if not rows:
            raise invalid(f"JSON Value: {json_text(document)} No values in 'instances' array")
        return _from_rows(rows, specs), True
    if has_inputs:
        return _from_columns(document["inputs"], specs), False
    raise invalid("Missing 'inputs' or 'instances' key")


def examples_input(document: Mapping[str, Any]) -> Any:
    """The `Input` of a body with "examples" and, optionally, a "context" they share.

    Raises:
        StatusError: INVALID_ARGUMENT with what is wrong.
    """
    result = Input()
    with_context = "context" in document
    if with_context:
        result.example_list_with_context.context.CopyFrom(_example(document["context"]))
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {json_text(document)} When method is classify, key 'examples' is expected and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {json_text(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {json_text(document)} 'examples' value is an empty array")
    target = result.example_list_with_context.examples if with_context else result.example_list.examples
    target.extend(_example(example) for example in examples)
    return result


def _is_base64(value: Any) -> bool:
    """Whether a JSON value is `{"b64": "..."}`."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _decode_base64(value: Any) -> bytes:
    """The bytes of `{"b64": "..."}`; the padding may be missing.

    Raises:
        StatusError: INVALID_ARGUMENT if it has another form or is not base64.
    """
    if not _is_base64(value):
        raise invalid(f"JSON Value: {json_text(value)} not formatted correctly for base64 data")
    text = value["b64"].rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _json_type(value: Any) -> str:
    """The name of a JSON value's type in TF Serving's error texts."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, dict):
        return "Object"
    if isinstance(value, list):
        return "Array"
    return "String" if isinstance(value, str) else "Number"


def _is_row_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _from_rows(rows: list[Any], specs: Mapping[str, SignatureTensor]) -> dict[str, np.ndarray]:
    if not isinstance(rows[0], dict) and len(specs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    columns: dict[str, _Column] = {}
    objects = _is_row_object(rows[0])
    for index, row in enumerate(rows):
        if objects:
            if not _is_row_object(row):
                raise invalid(f"Expecting object but got list at item {index} of input list")
            for name, value in row.items():
                try:
                    _add_row(columns, name, value, specs)
                except StatusError as error:
                    raise invalid(
                        f"Failed to process element: {index} key: {name} of 'instances' list. Error: {error}"
                    ) from None
            if row.keys() != specs.keys():
                raise invalid(
                    f"Failed to process element: {index} of 'instances' list. JSON object: {json_text(row)} "
                    f"keys must be equal to: {','.join(sorted(specs))}"
                )
        else:
            if _is_row_object(row):
                raise invalid(f"Expecting value/list but got object at item {index} of input list")
            try:
                _add_row(columns, next(iter(specs)), row, specs)
            except StatusError as error:
                raise invalid(
                    f"Failed to process element: {index} of 'instances' list. Error: {error}"
                ) from None
    return {
        name: _array(column.values, specs[name].dtype).reshape(len(rows), *column.shape)
        for name, column in columns.items()
    }


class _Column:
    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape
        self.values: list[Any] = []


def _add_row(
    columns: dict[str, _Column], name: str, value: Any, specs: Mapping[str, SignatureTensor]
) -> None:
    if name not in specs:
        raise invalid(f"JSON object: does not have named input: {name}")
    shape = _shape(value)
    column = columns.setdefault(name, _Column(shape))
    before = len(column.values)
    _collect(value, 0, shape, specs[name].dtype, column.values)
    size, expected = len(column.values) - before, math.prod(column.shape)
    if size != expected:
        raise invalid(f"Expecting tensor size: {expected} but got: {size}")
    if shape != column.shape:
        raise invalid(f"Expecting shape {shape_text(column.shape)} but got: {shape_text(shape)}")


def _from_columns(value: Any, specs: Mapping[str, SignatureTensor]) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or _is_base64(value):
        if len(specs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        value = {next(iter(specs)): value}
    arrays = {}
    for name, spec in specs.items():
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        shape = _shape(value[name])
        values: list[Any] = []
        _collect(value[name], 0, shape, spec.dtype, values)
        arrays[name] = _array(values, spec.dtype).reshape(shape)
    return arrays


def _shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _collect(value: Any, level: int, shape: tuple[int, ...], dtype: int, values: list[Any]) -> None:
    """Appends the leaves of `value`, checking that it is a full box of that shape."""
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            raise invalid(
                f"JSON Value: {json_text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {rank}"
            )
        values.append(_scalar(value, dtype))
        return
    if level >= rank:
        raise invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    if level == rank - 1 and (check := _CHECKS.get(dtype)) is not None and check(value):
        values.extend(value)
        return
    for element in value:
        _collect(element, level + 1, shape, dtype, values)


def _scalar(value: Any, dtype: int) -> Any:
    if isinstance(value, dict):
        if dtype != STRING:
            raise _type_error(value, dtype)
        return _decode_base64(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if dtype in _FLOATS:
        if not number:
            raise _type_error(value, dtype)
        _, largest_integer, largest = _FLOATS[dtype]
        if isinstance(value, int) and -(2**63) <= value < 2**64:
            fits = abs(value) <= largest_integer
        else:
            fits = not math.isfinite(value) or abs(value) <= largest
        if not fits:
            raise invalid(
                f"Cannot convert JSON value: {json_text(value)} to {short_dtype_name(dtype)} without loss of precision."
            )
        return value
    if dtype in _INTEGERS:
        _, low, high = _INTEGERS[dtype]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _type_error(value, dtype)
        return value
    if dtype == STRING:
        if not isinstance(value, str):
            raise _type_error(value, dtype)
        return value.encode("utf-8", "surrogateescape")
    if dtype == 10:
        if not isinstance(value, bool):
            raise _type_error(value, dtype)
        return value
    raise StatusError(
        Code.UNIMPLEMENTED, f"Conversion of JSON Value: {json_text(value)} to type: {short_dtype_name(dtype)}"
    )


def _type_error(value: Any, dtype: int) -> StatusError:
    return invalid(
        f"JSON Value: {json_text(value)} Type: {_json_type(value)} is not of expected type: {short_dtype_name(dtype)}"
    )


def _all_of_type(kind: type) -> Callable[[list[Any]], bool]:
    return lambda values: all(type(value) is kind for value in values)


# A whole innermost list at once where nothing can be wrong with its elements; otherwise one by one.
_CHECKS: dict[int, Callable[[list[Any]], bool]] = {2: _all_of_type(float), 10: _all_of_type(bool)}


def _array(values: list[Any], dtype: int) -> np.ndarray:
    if dtype == STRING:
        array = np.empty(len(values), object)
        array[:] = values
        return array
    if dtype in _INTEGERS:
        target, low, _ = _INTEGERS[dtype]
        # As a C cast does: 300 as uint8 is 44.
        return np.array(values, np.int64 if low else target).astype(target)
    if dtype == 10:
        return np.array(values, bool)
    return np.array(values, _FLOATS[dtype][0])


def _parse_finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("Number too big to be stored in double.")
    return value


def _parse_finite_integer(text: str) -> int:
    _parse_finite(text)
    return int(text)


def _example(value: Any) -> Any:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {_json_type(value)}")
    example = Example()
    for name, content in value.items():
        feature = Feature()
        for element in content if isinstance(content, list) else [content]:
            _add_value(name, element, feature)
        example.features.feature[name].CopyFrom(feature)
    return example


def _add_value(name: str, value: Any, feature: Any) -> None:
    if isinstance(value, bool):
        _feature_values(name, feature, "int64_list").append(int(value))
    elif isinstance(value, str):
        _feature_values(name, feature, "bytes_list").append(value.encode("utf-8", "surrogateescape"))
    elif _is_base64(value):
        _feature_values(name, feature, "bytes_list").append(_decode_base64(value))
    elif isinstance(value, float) or (isinstance(value, int) and not -(2**63) <= value < 2**64):
        values = _feature_values(name, feature, "float_list")
        if abs(value) > 3.4028234663852886e38 and value not in (float("inf"), float("-inf")):
            raise invalid(
                f"Cannot convert JSON value: {json_text(value)} to float without loss of precision."
            )
        values.append(value)
    elif isinstance(value, int):
        values = _feature_values(name, feature, "int64_list")
        if value >= 2**63:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        values.append(value)
    else:
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {_json_type(value)}")


def _feature_values(name: str, feature: Any, kind: str) -> Any:
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_FEATURE_KINDS[present]}")
    return getattr(feature, kind).value
