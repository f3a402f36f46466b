"""NumPy arrays to TensorProto and back, with the rules of TensorFlow's own C++ conversion.

Reading: `tensor_content` wins over the typed field; fewer values than elements repeat the last one, none at all means
zeros or empty text; surplus values are dropped; a missing shape is a scalar; values in a field that does not belong to
the dtype are ignored. (`tf.make_ndarray` differs: it raises on surplus values.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from google.protobuf import unknown_fields

from serving.wire.messages import DataType, TensorProto, UnpackedTensorProto

MAX_FILL_BYTES = 256 * 2**20
"""A tensor whose values are not all in the message may not grow beyond this: a message of 20 bytes that declares a terabyte
would otherwise take the machine's memory."""

_DTYPES: dict[str, tuple[str, str]] = {
    "DT_FLOAT": ("<f4", "float_val"),
    "DT_DOUBLE": ("<f8", "double_val"),
    "DT_HALF": ("<f2", "half_val"),
    "DT_INT8": ("i1", "int_val"),
    "DT_INT16": ("<i2", "int_val"),
    "DT_INT32": ("<i4", "int_val"),
    "DT_INT64": ("<i8", "int64_val"),
    "DT_UINT8": ("u1", "int_val"),
    "DT_UINT16": ("<u2", "int_val"),
    "DT_UINT32": ("<u4", "uint32_val"),
    "DT_UINT64": ("<u8", "uint64_val"),
    "DT_BOOL": ("?", "bool_val"),
    "DT_COMPLEX64": ("<c8", "scomplex_val"),
    "DT_COMPLEX128": ("<c16", "dcomplex_val"),
}
_STRING = DataType.Value("DT_STRING")
_BFLOAT16 = DataType.Value("DT_BFLOAT16")
_BY_NUMBER = {DataType.Value(name): (np.dtype(code), field) for name, (code, field) in _DTYPES.items()}
_BY_DTYPE = {dtype: (number, field) for number, (dtype, field) in _BY_NUMBER.items()}
# Fields that `protos/tensorflow.proto` declares as blocks of little-endian numbers, and what the numbers are.
_BLOCKS = {"float_val": "<f4", "double_val": "<f8", "scomplex_val": "<f4", "dcomplex_val": "<f8"}
_INTEGERS: dict[str, Any] = {
    "int_val": np.int32,
    "half_val": np.int32,
    "int64_val": np.int64,
    "bool_val": np.bool_,
    "uint32_val": np.uint32,
    "uint64_val": np.uint64,
}


class TensorError(ValueError):
    """The message describes no tensor, or one that NumPy cannot hold."""


def to_tensor(values: Any, *, typed_fields: bool = False) -> Any:
    """Makes a TensorProto of an array. Arguments and errors as `write_tensor`."""
    tensor = TensorProto()
    write_tensor(values, tensor, typed_fields=typed_fields)
    return tensor


def write_tensor(values: Any, tensor: Any, *, typed_fields: bool = False) -> None:
    """Writes an array into an empty TensorProto.

    Args:
      values: a NumPy array or what makes one; text (`str` or `bytes`) becomes DT_STRING, in UTF-8. A dtype named bfloat16
        (of the package ml_dtypes) becomes DT_BFLOAT16.
      tensor: the message.
      typed_fields: write `float_val`, `int64_val`, ... as TF Serving's answers do, not `tensor_content`.

    Raises:
      TypeError: the dtype has no TensorProto form.
    """
    array = np.asarray(values)
    if array.dtype.kind in "SUO":
        tensor.dtype = _STRING
        _set_shape(tensor, array.shape)
        tensor.string_val.extend([_as_bytes(value) for value in array.ravel().tolist()])
        return
    if array.dtype.name == "bfloat16":
        number, field = _BFLOAT16, "half_val"
    elif array.dtype in _BY_DTYPE:
        number, field = _BY_DTYPE[array.dtype]
    else:
        raise TypeError(f"a tensor holds text, numbers or booleans. Received: dtype {array.dtype}")
    tensor.dtype = number
    _set_shape(tensor, array.shape)
    if not array.size:
        return
    if not typed_fields:
        tensor.tensor_content = array.tobytes()
    elif field in _BLOCKS:
        getattr(tensor, field).append(array.tobytes())
    else:
        integers = np.ascontiguousarray(array).view(np.uint16) if field == "half_val" else array
        getattr(tensor, field).extend(integers.ravel().tolist())


def to_array(tensor: Any, *, bfloat16: Any = None) -> np.ndarray:
    """Reads a TensorProto; text becomes an object array of `bytes`.

    Args:
      tensor: the message.
      bfloat16: the NumPy dtype to read DT_BFLOAT16 as, which NumPy itself lacks; None: widened to float32.

    Returns:
      An array of the declared dtype and shape. It may share the message's memory and is then read-only.

    Raises:
      TensorError: a negative dimension, a shape that NumPy cannot hold, `tensor_content` of another length, more than
        `MAX_FILL_BYTES` to fill in, a dtype without values.
    """
    try:
        shape = (
            tuple(dim.size for dim in tensor.tensor_shape.dim) if not tensor.tensor_shape.unknown_rank else ()
        )
        if any(size < 0 for size in shape):
            raise TensorError(f"tensor dimensions must be >= 0. Received: {list(shape)}")
        return _values(tensor, math.prod(shape), bfloat16).reshape(shape)
    except TensorError:
        raise
    except (ValueError, OverflowError) as error:
        # NumPy's own limits: 64 dimensions, sizes whose product fits a pointer even where one of them is 0.
        raise TensorError(
            f"a tensor must fit NumPy's arrays ({error}). Received: {len(shape)} dimensions"
        ) from None


def _values(tensor: Any, count: int, bfloat16: Any) -> np.ndarray:
    if tensor.dtype == _STRING and not tensor.tensor_content:
        return _fill(np.array(tensor.string_val[:count], object), count)
    if tensor.dtype == _BFLOAT16:
        bits = _numbers(tensor, np.dtype("<u2"), "half_val", count)
        return (bits.astype("<u4") << 16).view("<f4") if bfloat16 is None else bits.view(bfloat16)
    if tensor.dtype not in _BY_NUMBER:
        raise TensorError(f"a tensor must hold text, numbers or booleans. Received: dtype {tensor.dtype}")
    dtype, field = _BY_NUMBER[tensor.dtype]
    return _numbers(tensor, dtype, field, count)


def _numbers(tensor: Any, dtype: np.dtype, field: str, count: int) -> np.ndarray:
    if tensor.tensor_content:
        if len(tensor.tensor_content) != count * dtype.itemsize:
            raise TensorError(
                f"tensor_content must have {count * dtype.itemsize} bytes for {count} elements of {dtype}. "
                f"Received: {len(tensor.tensor_content)}"
            )
        return np.frombuffer(tensor.tensor_content, dtype)
    if field in _BLOCKS:
        return _fill(_block(tensor, dtype, field), count)
    values = getattr(tensor, field)
    integers: np.ndarray = np.fromiter(values, _INTEGERS[field], len(values))
    if field == "half_val":
        return _fill(integers.astype("<u2").view(dtype), count)
    # int_val is 32 bits wide on the wire and is cut to the dtype's width, as a C cast does.
    return _fill(integers.astype(dtype, copy=False), count)


def _block(tensor: Any, dtype: np.dtype, field: str) -> np.ndarray:
    blocks = getattr(tensor, field)
    if len(unknown_fields.UnknownFieldSet(tensor)):
        # Some of the numbers came unpacked, perhaps.
        numbers = getattr(UnpackedTensorProto.FromString(tensor.SerializeToString()), field)
        block = np.fromiter(numbers, _BLOCKS[field], len(numbers)).tobytes()
    else:
        block = blocks[0] if len(blocks) == 1 else b"".join(blocks)
    width = np.dtype(_BLOCKS[field]).itemsize
    if len(block) % width:
        raise TensorError(f"{field} must hold numbers of {width} bytes. Received: {len(block)} bytes")
    return np.frombuffer(block, dtype, len(block) // dtype.itemsize)


def _fill(values: np.ndarray, count: int) -> np.ndarray:
    if len(values) >= count:
        return values[:count]
    if count * values.dtype.itemsize > MAX_FILL_BYTES:
        raise TensorError(
            f"a tensor must not declare more than {MAX_FILL_BYTES} bytes that are not in the message. "
            f"Received: {count} elements, {len(values)} values"
        )
    missing = b"" if values.dtype == object else 0
    filled = np.full(count, values[-1] if len(values) else missing, values.dtype)
    filled[: len(values)] = values
    return filled


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
