"""TensorProto to NumPy and back, with the rules of TF's own C++ conversion.

Decoding: `tensor_content` wins over the typed field; too few values repeat the last one, none at all
means zeros or empty strings; surplus values are dropped; a missing shape is a scalar; values in a field
that does not belong to the dtype are ignored. `tf.make_ndarray` differs (it raises on surplus values).
Encoding: typed fields, never `tensor_content`, unless asked: clients read `.float_val`.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
from google.protobuf import unknown_fields

from ranker.backend import tf

_RAW: dict[int, tuple[np.dtype[Any], str]] = {
    1: (np.dtype("<f4"), "float_val"),
    2: (np.dtype("<f8"), "double_val"),
}
_VARINT: dict[int, tuple[np.dtype[Any], str]] = {
    3: (np.dtype("i4"), "int_val"),
    4: (np.dtype("u1"), "int_val"),
    5: (np.dtype("i2"), "int_val"),
    6: (np.dtype("i1"), "int_val"),
    9: (np.dtype("i8"), "int64_val"),
    10: (np.dtype("?"), "bool_val"),
    17: (np.dtype("u2"), "int_val"),
    22: (np.dtype("u4"), "uint32_val"),
    23: (np.dtype("u8"), "uint64_val"),
}
_HALF: dict[int, np.dtype[Any]] = {14: np.dtype(ml_dtypes.bfloat16), 19: np.dtype("f2")}
_COMPLEX: dict[int, tuple[np.dtype[Any], str, str]] = {
    8: (np.dtype("c8"), "scomplex_val", "f4"),
    18: (np.dtype("c16"), "dcomplex_val", "f8"),
}
STRING = 7

DTYPE_ENUM: dict[np.dtype, int] = {
    **{dtype: enum for enum, (dtype, _) in {**_RAW, **_VARINT}.items()},
    **{dtype: enum for enum, dtype in _HALF.items()},
    **{dtype: enum for enum, (dtype, _, _) in _COMPLEX.items()},
    np.dtype(object): STRING,
}

MAX_FILL_BYTES = 256 * 2**20
"""A tensor whose values are not all in the message may not grow beyond this: a 20-byte request that
declares a terabyte would otherwise take the machine's memory."""

_MAX_ELEMENTS = 2**62
_MAX_RANK = 254


class TensorError(ValueError):
    """The proto does not describe a tensor."""


def decode(proto: Any) -> np.ndarray:
    """The array a `wire.Tensor` (or an ordinary `TensorProto` of another dtype) stands for.

    Args:
        proto: a `serving.server.wire.Tensor`.

    Returns:
        Array of the declared dtype and shape; strings as an object array of `bytes`. Read-only when it
        shares memory with the message.

    Raises:
        TensorError: `tensor_content` of the wrong length, a negative dimension, an invalid dtype, or
            more than `MAX_FILL_BYTES` to be filled in.
    """
    try:
        return _decode(proto)
    except ValueError as error:
        # NumPy's own limits are narrower than a proto's: 64 dimensions, sizes whose product fits a pointer
        # even where one of them is 0.
        raise TensorError(str(error)) from None


def _decode(proto: Any) -> np.ndarray:
    enum = proto.dtype
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if len(shape) > _MAX_RANK or any(size < 0 for size in shape):
        raise TensorError(f"invalid shape {list(shape)}")
    count = math.prod(shape)
    if count > _MAX_ELEMENTS:
        raise TensorError(f"shape {list(shape)} has too many elements")
    content = proto.tensor_content
    if enum in _RAW:
        dtype, field = _RAW[enum]
        if content:
            return _from_content(content, dtype, shape, count)
        chunks = getattr(proto, field)
        if len(unknown_fields.UnknownFieldSet(proto)):
            return _through_tensorflow(proto)
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if len(data) % dtype.itemsize:
            raise TensorError("a packed field is cut short")
        return _fill(np.frombuffer(data, dtype), shape, count)
    if enum in _VARINT:
        dtype, field = _VARINT[enum]
        if content:
            return _from_content(content, dtype, shape, count)
        values = getattr(proto, field)
        # int_val is 32 bits wide on the wire and is cut to the dtype's width, as a C cast does.
        wide = np.dtype("i4") if field == "int_val" else dtype
        array = np.fromiter(values, wide, len(values))
        return _fill(array if wide == dtype else array.astype(dtype), shape, count)
    if enum == STRING and not content:
        return _fill(np.array(list(proto.string_val), object), shape, count)
    if enum in _HALF:
        if content:
            return _from_content(content, _HALF[enum], shape, count)
        bits = np.fromiter(proto.half_val, np.int32, len(proto.half_val)).astype(np.uint16)
        return _fill(bits.view(_HALF[enum]), shape, count)
    if enum in _COMPLEX:
        dtype, field, part = _COMPLEX[enum]
        if content:
            return _from_content(content, dtype, shape, count)
        values = getattr(proto, field)
        pairs = np.fromiter(values, part, len(values))
        return _fill(pairs[: len(pairs) // 2 * 2].view(dtype), shape, count)
    return _through_tensorflow(proto)


def encode(array: np.ndarray, proto: Any, as_content: bool = False) -> None:
    """Writes an array into a `wire.Tensor`.

    Args:
        array: any array TensorFlow returns; strings as an object array of `bytes`.
        proto: an empty `serving.server.wire.Tensor`.
        as_content: numeric arrays as `tensor_content` instead of the typed field.

    Raises:
        TensorError: the dtype has no typed field (a resource or a variant).
    """
    enum = DTYPE_ENUM.get(array.dtype)
    if enum is None:
        raise TensorError(f"cannot encode a tensor of type {array.dtype}")
    proto.dtype = enum
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if enum == STRING:
        proto.string_val.extend(array.ravel().tolist())
    elif as_content:
        proto.tensor_content = array.tobytes()
    elif enum in _RAW:
        if array.size:
            getattr(proto, _RAW[enum][1]).append(array.tobytes())
    elif enum in _VARINT:
        getattr(proto, _VARINT[enum][1]).extend(array.ravel().tolist())
    elif enum in _HALF:
        proto.half_val.extend(array.ravel().view(np.uint16).tolist())
    else:
        _, field, part = _COMPLEX[enum]
        getattr(proto, field).extend(np.ascontiguousarray(array).ravel().view(part).tolist())


def _from_content(content: bytes, dtype: np.dtype, shape: tuple[int, ...], count: int) -> np.ndarray:
    if len(content) != count * dtype.itemsize:
        raise TensorError(
            f"tensor_content has {len(content)} bytes, the shape asks for {count * dtype.itemsize}"
        )
    return np.frombuffer(content, dtype).reshape(shape)


def _fill(values: np.ndarray, shape: tuple[int, ...], count: int) -> np.ndarray:
    """`values` cut or extended to `count` elements: the last value repeats."""
    have = len(values)
    if have == count:
        return values.reshape(shape)
    if have > count:
        return values[:count].reshape(shape)
    if count * values.dtype.itemsize > MAX_FILL_BYTES:
        raise TensorError(
            f"shape {list(shape)} declares more than {MAX_FILL_BYTES} bytes that are not in the message"
        )
    empty = b"" if values.dtype == object else 0
    full = np.full(count, values[-1] if have else empty, values.dtype)
    full[:have] = values
    return full.reshape(shape)


def _through_tensorflow(proto: Any) -> np.ndarray:
    """The slow way, for what is rare: unpacked numbers, strings in `tensor_content`, quantised types."""
    try:
        dtype = tf.dtypes.as_dtype(proto.dtype)
        parsed = tf.io.parse_tensor(proto.SerializeToString(), dtype)
        array = parsed.numpy()
    except (TypeError, tf.errors.OpError, NotImplementedError) as error:
        raise TensorError(str(error)) from None
    return np.asarray(array, dtype=object if dtype == tf.string else None)
