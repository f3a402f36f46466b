"""JSON request bodies of Classify and Regress to tf.Examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow_serving.apis import input_pb2

from serving.server.json_output import json_text
from serving.server.json_tensors import decode_base64, is_base64, json_type
from serving.status import invalid

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}
_FLOAT_INTEGERS = 2**24 - 1


def examples_input(document: Mapping[str, Any]) -> input_pb2.Input:
    """The `Input` of a body with "examples" and, optionally, a "context" they share.

    Raises:
        ServingError: INVALID_ARGUMENT with what is wrong.
    """
    result = input_pb2.Input()
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


def _example(value: Any) -> example_pb2.Example:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        feature = feature_pb2.Feature()
        for element in content if isinstance(content, list) else [content]:
            _add(name, element, feature)
        example.features.feature[name].CopyFrom(feature)
    return example


def _add(name: str, value: Any, feature: feature_pb2.Feature) -> None:
    if isinstance(value, bool):
        _list(name, feature, "int64_list").append(int(value))
    elif isinstance(value, str):
        _list(name, feature, "bytes_list").append(value.encode("utf-8", "surrogateescape"))
    elif is_base64(value):
        _list(name, feature, "bytes_list").append(decode_base64(value))
    elif isinstance(value, float) or (isinstance(value, int) and not -(2**63) <= value < 2**64):
        values = _list(name, feature, "float_list")
        if abs(value) > 3.4028234663852886e38 and value not in (float("inf"), float("-inf")):
            raise invalid(
                f"Cannot convert JSON value: {json_text(value)} to float without loss of precision."
            )
        values.append(value)
    elif isinstance(value, int):
        values = _list(name, feature, "int64_list")
        if value >= 2**63:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        values.append(value)
    else:
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")


def _list(name: str, feature: feature_pb2.Feature, kind: str) -> Any:
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[present]}")
    return getattr(feature, kind).value
