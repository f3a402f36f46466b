"""NumPy arrays to TensorProto and back, as TF Serving's C++ reads and writes them.

Numbers travel as `tensor_content`, one copy of the array's memory. TF Serving answers in typed fields
(`float_val`, ...) unless told otherwise; protobuf's Python containers give those up one object an element,
so packed floats are read from the wire as one block instead (32,768 floats: 0.05 ms against 2 ms).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from serving.wire.messages import DataType, TensorProto
from serving.wire.pool import build, message_class

MAX_ELEMENTS = 1 << 28
"""A tensor that claims more elements than this is refused before memory is taken for it."""

_DTYPES: dict[str, tuple[type[np.generic], str]] = {
    "DT_FLOAT": (np.float32, "float_val"),
    "DT_DOUBLE": (np.float64, "double_val"),
    "DT_HALF": (np.float16, "half_val"),
    "DT_INT8": (np.int8, "int_val"),
    "DT_INT16": (np.int16, "int_val"),
    "DT_INT32": (np.int32, "int_val"),
    "DT_INT64": (np.int64, "int64_val"),
    "DT_UINT8": (np.uint8, "int_val"),
    "DT_UINT16": (np.uint16, "int_val"),
    "DT_UINT32": (np.uint32, "uint32_val"),
    "DT_UINT64": (np.uint64, "uint64_val"),
    "DT_BOOL": (np.bool_, "bool_val"),
    "DT_COMPLEX64": (np.complex64, "scomplex_val"),
    "DT_COMPLEX128": (np.complex128, "dcomplex_val"),
}
_STRING = DataType.Value("DT_STRING")
_BFLOAT16 = DataType.Value("DT_BFLOAT16")
_BY_NUMBER = {DataType.Value(name): pair for name, pair in _DTYPES.items()}
_BY_DTYPE = {np.dtype(pair[0]): (DataType.Value(name), pair[1]) for name, pair in _DTYPES.items()}

# The floating-point fields of TensorProto, each as the bytes of its packed block.
_PACKED = message_class(
    build("package packed\nmessage Blocks\n float_val 5 *bytes\n double_val 6 *bytes\n"
          " scomplex_val 9 *bytes\n dcomplex_val 12 *bytes"),
    "packed.Blocks",
)  # fmt: skip
_PACKED_DTYPES = {"float_val": "<f4", "double_val": "<f8", "scomplex_val": "<f4", "dcomplex_val": "<f8"}


def to_tensor(values: Any, *, typed_fields: bool = False) -> Any:
    """Encodes an array as a TensorProto.

    Args:
      values: a NumPy array or what makes one; text (`str` or `bytes`) becomes DT_STRING, in UTF-8.
      typed_fields: write `float_val`, `int64_val`, ... as TF Serving's answers do, not `tensor_content`.

    Raises:
      TypeError: the dtype has no TensorProto form.
    """
    array = np.asarray(values)
    if array.dtype.kind in "SUO":
        tensor = TensorProto(dtype=_STRING)
        _set_shape(tensor, array.shape)
        tensor.string_val.extend([_as_bytes(value) for value in array.ravel().tolist()])
        return tensor
    if array.dtype not in _BY_DTYPE:
        raise TypeError(f"a tensor holds text, numbers or booleans. Received: dtype {array.dtype}")
    number, field = _BY_DTYPE[array.dtype]
    tensor = TensorProto(dtype=number)
    _set_shape(tensor, array.shape)
    if not typed_fields:
        tensor.tensor_content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    elif array.dtype.kind == "c":
        getattr(tensor, field).extend(array.ravel().view(array.real.dtype).tolist())
    else:
        bits = array.view(np.uint16) if array.dtype == np.float16 else array
        getattr(tensor, field).extend(bits.ravel().tolist())
    return tensor


def to_array(tensor: Any) -> np.ndarray:
    """Decodes a TensorProto into a new array; text becomes an object array of `bytes`.

    As in TF Serving: `tensor_content` wins over typed values; fewer values than elements repeat the last
    one, none means zeros or empty text; surplus values are dropped; no shape or an unknown rank is a scalar.
    bfloat16, which NumPy lacks, widens to float32.

    Raises:
      ValueError: a negative dimension, more than `MAX_ELEMENTS` elements, content of another length, a
        dtype without values.
    """
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim) if not tensor.tensor_shape.unknown_rank else ()
    if any(size < 0 for size in shape):
        raise ValueError(f"tensor dimensions must be >= 0. Received: {list(shape)}")
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise ValueError(f"a tensor must have at most {MAX_ELEMENTS} elements. Received: shape {list(shape)}")
    if tensor.dtype == _STRING:
        return _strings(tensor.string_val[:count], count).reshape(shape)
    if tensor.dtype == _BFLOAT16:
        bits = _numbers(tensor, np.dtype(np.uint16), "half_val", count)
        return (bits.astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if tensor.dtype not in _BY_NUMBER:
        raise ValueError(f"a tensor must hold text, numbers or booleans. Received: dtype {tensor.dtype}")
    scalar, field = _BY_NUMBER[tensor.dtype]
    return _numbers(tensor, np.dtype(scalar), field, count).reshape(shape)


def _numbers(tensor: Any, dtype: np.dtype, field: str, count: int) -> np.ndarray:
    if tensor.tensor_content:
        if len(tensor.tensor_content) != count * dtype.itemsize:
            raise ValueError(
                f"tensor_content must have {count * dtype.itemsize} bytes for {count} elements of {dtype}. "
                f"Received: {len(tensor.tensor_content)}"
            )
        return np.frombuffer(tensor.tensor_content, dtype.newbyteorder("<")).astype(dtype)
    values = _typed_values(tensor, dtype, field)
    if len(values) >= count:
        return values[:count].copy()
    padded = np.full(count, values[-1] if len(values) else 0, dtype)
    padded[: len(values)] = values
    return padded


def _typed_values(tensor: Any, dtype: np.dtype, field: str) -> np.ndarray:
    values = getattr(tensor, field)
    if field in _PACKED_DTYPES:
        blocks = getattr(_PACKED.FromString(tensor.SerializeToString()), field)
        return np.frombuffer(b"".join(blocks), _PACKED_DTYPES[field]).view(dtype.newbyteorder("<"))
    if dtype == np.float16:
        return np.array(values[:], np.int64).astype(np.uint16).view(np.float16)
    return np.array(values[:], np.uint64 if field == "uint64_val" else np.int64).astype(dtype)


def _strings(values: list[bytes], count: int) -> np.ndarray:
    array = np.empty(count, object)
    array[: len(values)] = values
    array[len(values) :] = values[-1] if values else b""
    return array


def _set_shape(tensor: Any, shape: tuple[int, ...]) -> None:
    # Reading the field is not setting it; an empty shape must stand in the message as a scalar's.
    tensor.tensor_shape.SetInParent()
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise TypeError(f"a text tensor must hold str or bytes. Received: {value!r}")
