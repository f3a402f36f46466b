"""One TensorFlow Lite model, `model.tflite` in a version directory, behind the same `ServedModel` as a SavedModel.

One signature, `serving_default`: its tensors' names are the aliases, unless the file carries a SignatureDef
of its own that names them otherwise. One request runs at a time; an input of another size than the last
one's is allocated anew.

Source: TF Serving's tflite_session (which file, which signature, when inputs are resized).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flatbuffers import flexbuffers
from google.protobuf import message
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.lite.python import schema_py_generated as schema

from ranker.backend import tf
from serving.server.requests.signatures import (
    DEFAULT_SIGNATURE,
    PREDICT_METHOD,
    Feeds,
    ServedSignature,
    SignatureTensor,
)
from serving.server.requests.tensors import STRING, dtype_number, short_dtype_name
from serving.status import Code, StatusError, invalid

FILE = "model.tflite"
_METADATA = b"signature_defs_metadata"


class TfLiteModel:
    """A loaded TensorFlow Lite model.

    Attributes:
        signatures: the one signature by name.
        signature_defs: the same as a proto.
    """

    def __init__(self, path: str):
        """Loads `model.tflite` of the version directory `path`.

        Raises:
            StatusError: INVALID_ARGUMENT if it is no such model, INTERNAL if it can't be prepared.
        """
        self._lock = threading.Lock()
        try:
            content = (Path(path) / FILE).read_bytes()
            with warnings.catch_warnings():
                # Announces a removal in favour of another package; the class is still here.
                warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
                self._interpreter: Any = tf.lite.Interpreter(model_content=content)
        except (OSError, ValueError) as error:
            raise invalid(f"Cannot build FlatBufferModel from {path}/{FILE}: {error}") from None
        try:
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise StatusError(Code.INTERNAL, f"Cannot allocate tensors in Interpreter: {error}") from None
        saved = _saved_signature(content)
        inputs = _specs(self._interpreter.get_input_details(), saved.inputs)
        outputs = _specs(self._interpreter.get_output_details(), saved.outputs)
        definition = _definition(inputs, outputs, saved.method_name or PREDICT_METHOD)
        self.signature_defs = {DEFAULT_SIGNATURE: definition}
        self.signatures = {
            DEFAULT_SIGNATURE: ServedSignature(
                DEFAULT_SIGNATURE, definition.method_name, inputs, outputs, text=str(definition)
            )
        }

    def run(self, feeds: Feeds, fetches: Sequence[SignatureTensor], timeout_ms: int = 0) -> list[np.ndarray]:
        """Runs the model once; `timeout_ms` can't interrupt it.

        Raises:
            StatusError: INVALID_ARGUMENT for a wrong dtype, INTERNAL if the model does not take the shapes.
        """
        with self._lock:
            interpreter = self._interpreter
            try:
                for place, (spec, array) in enumerate(feeds):
                    self._feed(place, spec, array)
                interpreter.invoke()
                outputs = [interpreter.get_tensor(spec.endpoint) for spec in fetches]
            except (RuntimeError, ValueError) as error:
                raise StatusError(Code.INTERNAL, f"Failed to run interpreter: {error}") from None
        return [
            np.asarray(array, object) if spec.dtype == STRING else array
            for spec, array in zip(fetches, outputs, strict=True)
        ]

    def close(self) -> None:
        """Frees it."""
        with self._lock:
            self._interpreter = None

    def _feed(self, place: int, spec: SignatureTensor, array: np.ndarray) -> None:
        dtype = dtype_number(array.dtype)
        if dtype != spec.dtype:
            expected, received = short_dtype_name(spec.dtype), short_dtype_name(dtype)
            raise invalid(f"Expects arg[{place}] to be {expected} but {received} is provided")
        shape = tuple(self._interpreter.get_tensor(spec.endpoint).shape)
        if array.size != int(np.prod(shape)):
            self._interpreter.resize_tensor_input(spec.endpoint, array.shape)
            self._interpreter.allocate_tensors()
            shape = array.shape
        # As many values as before are taken in the shape there is.
        self._interpreter.set_tensor(spec.endpoint, array.reshape(shape))


def _specs(details: Sequence[dict[str, Any]], saved: Any) -> dict[str, SignatureTensor]:
    aliases = {info.name.split(":")[0]: alias for alias, info in saved.items()}
    specs = {}
    for tensor in details:
        name = tensor["name"]
        dtype = tf.as_dtype(tensor["dtype"]).as_datatype_enum
        shape = tuple(int(size) for size in tensor["shape"])
        specs[aliases.get(name, name)] = SignatureTensor(
            aliases.get(name, name), name, dtype, shape, tensor["index"]
        )
    return dict(sorted(specs.items()))


def _definition(inputs: dict[str, SignatureTensor], outputs: dict[str, SignatureTensor], method: str) -> Any:
    definition = meta_graph_pb2.SignatureDef(method_name=method)
    for specs, infos in ((inputs, definition.inputs), (outputs, definition.outputs)):
        for alias, spec in specs.items():
            infos[alias].name, infos[alias].dtype = spec.name, spec.dtype
            for size in spec.shape or ():
                infos[alias].tensor_shape.dim.add(size=size)
    return definition


def _saved_signature(content: bytes) -> Any:
    """The SignatureDef in the file's metadata; an empty one if it has none."""
    definition = meta_graph_pb2.SignatureDef()
    model = schema.Model.GetRootAsModel(content, 0)
    for index in range(model.MetadataLength()):
        if model.Metadata(index).Name() != _METADATA:
            continue
        packed = model.Buffers(model.Metadata(index).Buffer()).DataAsNumpy().tobytes()
        signatures = flexbuffers.GetRoot(packed).AsMap
        if len(signatures) > 1:
            raise invalid("Multiple SignatureDefs found in TfLite model")
        for value in signatures.Values:
            try:
                definition.ParseFromString(bytes(value.AsBlob if value.IsBlob else value.AsStringBytes))
            except message.DecodeError as error:
                raise invalid(f"Invalid SignatureDefs found in TfLite model: {error}") from None
    return definition
