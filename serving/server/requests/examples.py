"""Classify, Regress and MultiInference: tf.Examples in, results out.

The examples are not parsed here: each goes to the graph as the bytes that arrived, with the context's
bytes in front (concatenated protos merge).

Source: TF Serving's classifier, regressor and multi-inference; their messages are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.server.requests.predict import ServedModel
from serving.server.requests.signatures import (
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    REGRESS_METHOD,
    ServedSignature,
    SignatureTensor,
)
from serving.server.requests.tensors import dtype_name, dtype_number, shape_text
from serving.status import Code, StatusError, invalid
from serving.wire import ClassificationResult, InferenceResult, RegressionResult

_FLOAT, _STRING = 1, 7


def serialized_examples(request_input: Any) -> np.ndarray:
    """The examples of an `Input` as an object array [n] of bytes.

    Raises:
        StatusError: INVALID_ARGUMENT if there are none.
    """
    kind = request_input.WhichOneof("kind")
    if kind == "example_list":
        records = [example.SerializeToString() for example in request_input.example_list.examples]
    elif kind == "example_list_with_context":
        with_context = request_input.example_list_with_context
        context = with_context.context.SerializeToString()
        records = [context + example.SerializeToString() for example in with_context.examples]
    else:
        records = []
    if not records:
        raise invalid("Input is empty.")
    array = np.empty(len(records), object)
    array[:] = records
    return array


def classify(model: ServedModel, signature_name: str, request_input: Any, timeout_ms: int = 0) -> Any:
    """Runs a classification signature.

    Raises:
        StatusError: as TF Serving answers.
    """
    signature = _find_signature(model.signatures, signature_name, "No signature was found with the name: ")
    input_spec, fetches = _classify_tensors(signature)
    examples = serialized_examples(request_input)
    outputs = model.run([(input_spec, examples)], fetches, timeout_ms)
    return _classifications(signature, len(examples), _outputs_by_name(fetches, outputs))


def regress(model: ServedModel, signature_name: str, request_input: Any, timeout_ms: int = 0) -> Any:
    """Runs a regression signature.

    Raises:
        StatusError: as TF Serving answers.
    """
    signature = _find_signature(model.signatures, signature_name, "No signature was found with the name: ")
    input_spec, fetches = _regress_tensors(signature)
    examples = serialized_examples(request_input)
    outputs = model.run([(input_spec, examples)], fetches, timeout_ms)
    return _regressions(signature, len(examples), _outputs_by_name(fetches, outputs))


def multi_inference(
    model: ServedModel, tasks: Sequence[Any], request_input: Any, timeout_ms: int = 0
) -> list[Any]:
    """Runs several classification and regression signatures over the same examples, in one call.

    Args:
        model: the version that answers; the first task's.
        tasks: `InferenceTask`s.
        request_input: the `Input` they share.
        timeout_ms: 0 for none.

    Returns:
        One result a task, without its model_spec.

    Raises:
        StatusError: as TF Serving answers.
    """
    signatures: dict[str, ServedSignature] = {}
    feeds: dict[str, SignatureTensor] = {}
    fetches: dict[str, SignatureTensor] = {}
    model_name = ""
    for task in tasks:
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        model_name = model_name or task.model_spec.name
        if model_name != task.model_spec.name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in signatures:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        signature = _find_signature(model.signatures, name, "Requested signature not found in model graph: ")
        signatures[name] = signature
        if task.method_name == CLASSIFY_METHOD:
            spec, outputs = _classify_tensors(signature)
        elif task.method_name == REGRESS_METHOD:
            spec, outputs = _regress_tensors(signature)
        else:
            raise StatusError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
        # A TF1 model's signatures share one input tensor; each of a TF2 model's has its own.
        feeds[spec.name] = spec
        fetches.update({output.name: output for output in outputs})
    examples = serialized_examples(request_input)
    ordered = [fetches[name] for name in sorted(fetches)]
    by_name = _outputs_by_name(
        ordered, model.run([(feeds[name], examples) for name in sorted(feeds)], ordered, timeout_ms)
    )
    results = []
    for task in tasks:
        signature = signatures[task.model_spec.signature_name or DEFAULT_SIGNATURE]
        if task.method_name == CLASSIFY_METHOD:
            result = InferenceResult(
                classification_result=_classifications(signature, len(examples), by_name)
            )
        else:
            result = InferenceResult(regression_result=_regressions(signature, len(examples), by_name))
        results.append(result)
    return results


def _find_signature(
    signatures: Mapping[str, ServedSignature], name: str, error_prefix: str
) -> ServedSignature:
    name = name or DEFAULT_SIGNATURE
    if name not in signatures:
        raise invalid(error_prefix + name)
    return signatures[name]


def _outputs_by_name(
    fetches: Sequence[SignatureTensor], outputs: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    return {spec.name: array for spec, array in zip(fetches, outputs, strict=True)}


def _classify_tensors(signature: ServedSignature) -> tuple[SignatureTensor, list[SignatureTensor]]:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {signature.text}")
    fetches = [signature.outputs[alias] for alias in ("classes", "scores") if alias in signature.outputs]
    if not fetches:
        raise invalid(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {signature.text}"
        )
    return signature.inputs["inputs"], fetches


def _regress_tensors(signature: ServedSignature) -> tuple[SignatureTensor, list[SignatureTensor]]:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {signature.text}")
    if "outputs" not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {signature.text}")
    return signature.inputs["inputs"], [signature.outputs["outputs"]]


def _output(
    signature: ServedSignature, alias: str, by_name: Mapping[str, np.ndarray], dtype: int, examples: int
) -> np.ndarray | None:
    if alias not in signature.outputs:
        return None
    array = by_name[signature.outputs[alias].name]
    if array.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {shape_text(array.shape)}")
    if dtype_number(array.dtype) != dtype:
        raise invalid(f"Expected {alias} Tensor of {dtype_name(dtype)}. Got: {dtype_name(array.dtype)}")
    if len(array) != examples:
        raise invalid(f"Expected {alias} output batch size of {examples}. Got: {len(array)}")
    return array


def _classifications(signature: ServedSignature, examples: int, by_name: Mapping[str, np.ndarray]) -> Any:
    classes = _output(signature, "classes", by_name, _STRING, examples)
    scores = _output(signature, "scores", by_name, _FLOAT, examples)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid(
            "Tensors class and score should match in dim_size(1). "
            f"Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    result = ClassificationResult()
    width = (classes if classes is not None else scores).shape[1]  # type: ignore[union-attr]
    for row in range(examples):
        entry = result.classifications.add()
        for column in range(width):
            # A label is a proto string here though the tensor holds bytes: what is not UTF-8 is replaced.
            label = classes[row, column].decode("utf-8", "replace") if classes is not None else ""
            entry.classes.add(label=label, score=float(scores[row, column]) if scores is not None else 0.0)
    return result


def _regressions(signature: ServedSignature, examples: int, by_name: Mapping[str, np.ndarray]) -> Any:
    array = by_name[signature.outputs["outputs"].name]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            + shape_text(array.shape)
        )
    if len(array) != examples:
        raise invalid(f"Input batch size did not match output batch size: {examples} vs. {len(array)}")
    if dtype_number(array.dtype) != _FLOAT:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {dtype_name(array.dtype)}")
    result = RegressionResult()
    for value in array.ravel().tolist():
        result.regressions.add(value=value)
    return result
