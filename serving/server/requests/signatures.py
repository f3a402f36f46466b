"""A model's signatures, and the checks between a request's inputs and one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serving.status import Code, StatusError, invalid
from serving.wire import TensorError

DEFAULT_SIGNATURE = "serving_default"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
PREDICT_METHOD = "tensorflow/serving/predict"


@dataclass(frozen=True)
class SignatureTensor:
    """One input or output of a signature.

    Attributes:
        alias: its name in the API.
        name: its name in the graph, such as `x:0`.
        dtype: TensorFlow's enum.
        shape: sizes, -1 where unknown; None for an unknown rank.
        endpoint: the graph's own handle for it, opaque here.
    """

    alias: str
    name: str
    dtype: int
    shape: tuple[int, ...] | None
    endpoint: Any = None


@dataclass(frozen=True)
class ServedSignature:
    """One SignatureDef, ready to run. `inputs`, `outputs` and `defaults` are sorted by alias."""

    name: str
    method_name: str
    inputs: Mapping[str, SignatureTensor]
    outputs: Mapping[str, SignatureTensor]
    defaults: Mapping[str, np.ndarray] = field(default_factory=dict)
    text: str = ""
    """The SignatureDef as text, for error messages."""


Feeds = list[tuple[SignatureTensor, np.ndarray]]


def check_method_name(api: str, signature: ServedSignature) -> None:
    """Holds a signature's method name against the method called, as `--enable_signature_method_name_check` asks.

    Args:
        api: "Predict", which runs all three kinds, "Classify" or "Regress".
        signature: the one to run.

    Raises:
        StatusError: it is of another kind: INTERNAL for Predict, INVALID_ARGUMENT for the others.
    """
    name = signature.method_name
    if api == "Predict" and name not in (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD):
        kinds = f"{PREDICT_METHOD}, {CLASSIFY_METHOD}, {REGRESS_METHOD}"
        raise StatusError(
            Code.INTERNAL, f"Expected prediction signature method_name to be one of {{{kinds}}}. Was: {name}"
        )
    if api == "Classify" and name != CLASSIFY_METHOD:
        raise invalid(f"Expected classification signature method_name to be {CLASSIFY_METHOD}. Was: {name}")
    if api == "Regress" and name != REGRESS_METHOD:
        raise invalid(f"Expected regression signature method_name to be {REGRESS_METHOD}. Was: {name}")


def prepare_feeds(
    signature: ServedSignature,
    names: Iterable[str],
    decode: Callable[[str], np.ndarray],
    strict: bool = False,
    max_rows: int = 0,
) -> Feeds:
    """Matches a request's inputs with the signature, in TF Serving's order of checks.

    Args:
        signature: the signature to run.
        names: aliases present in the request.
        decode: gives the array of an alias; may raise `TensorError`.
        strict: also check each shape against the signature, which TF Serving leaves to the kernels.
        max_rows: most rows (first dimension) of an input; 0 for no limit.

    Returns:
        (input, array) pairs to feed.

    Raises:
        StatusError: INVALID_ARGUMENT for a wrong number of inputs, a wrong alias, an undecodable
            tensor or (strict) a wrong shape.
    """
    received = set(names)
    inputs = signature.inputs
    if len(received) > len(inputs) or (len(received) < len(inputs) and not signature.defaults):
        extra, missing = received - inputs.keys(), inputs.keys() - received
        raise invalid(
            f"input size does not match signature: {len(received)}!={len(inputs)} "
            f"len({_braces(received)}) != len({_braces(inputs)}). "
            f"Sent extra: {_braces(extra)}. Missing but required: {_braces(missing)}."
        )
    feeds: Feeds = []
    for alias, spec in inputs.items():
        if alias in received:
            try:
                array = decode(alias)
            except TensorError:
                raise invalid(f"tensor parsing error: {alias}") from None
            if max_rows and array.ndim and len(array) > max_rows:
                raise invalid(f'Input "{alias}" must have at most {max_rows} rows. Received: {len(array)}')
            if strict:
                check_shape(signature.name, spec, array.shape)
            feeds.append((spec, array))
        elif alias in signature.defaults:
            feeds.append((spec, signature.defaults[alias]))
        else:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {spec.name}) not found in request and no default "
                f"value provided. Inputs expected to be in the request {_braces(received)}, or default input "
                "alias set: " + ",".join(sorted(signature.defaults))
            )
    if received - inputs.keys():
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {','.join(sorted(received & inputs.keys()))}, "
            f"request input: {','.join(sorted(received))}"
        )
    return feeds


def select_outputs(signature: ServedSignature, output_filter: Iterable[str]) -> list[SignatureTensor]:
    """The outputs to fetch: those named, or all when none is named.

    Raises:
        StatusError: INVALID_ARGUMENT for an unknown or repeated alias.
    """
    chosen: dict[str, SignatureTensor] = {}
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_braces(signature.outputs)}."
            )
        if alias in chosen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        chosen[alias] = signature.outputs[alias]
    return list(chosen.values()) or list(signature.outputs.values())


def check_shape(signature_name: str, spec: SignatureTensor, shape: tuple[int, ...]) -> None:
    """Refuses an array that the signature does not describe.

    Raises:
        StatusError: INVALID_ARGUMENT that names the input, the expected shape and the one received.
    """
    if spec.shape is None:
        return
    is_described = len(shape) == len(spec.shape) and all(
        expected in (-1, size) for expected, size in zip(spec.shape, shape, strict=True)
    )
    if not is_described:
        raise invalid(
            f'Input "{spec.alias}" of signature "{signature_name}" must have shape {_shape(spec.shape)}. '
            f"Received: {_shape(shape)}"
        )


def find(signatures: Mapping[str, ServedSignature], name: str) -> ServedSignature:
    """The signature of that name; "" means `serving_default`.

    Raises:
        StatusError: FAILED_PRECONDITION, as TF Serving's Predict answers.
    """
    name = name or DEFAULT_SIGNATURE
    if name not in signatures:
        raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return signatures[name]


def _braces(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ",".join("?" if size == -1 else str(size) for size in shape) + "]"
