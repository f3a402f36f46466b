"""What the server adds to `serving.wire`'s tensors: TensorFlow's rarer dtypes, and names as its error texts spell them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from ranker.backend import tf
from serving.wire import DataType, TensorError, to_array

STRING = DataType.Value("DT_STRING")
_WITHOUT_NUMPY_TYPE = ("DT_Q", "DT_FLOAT8", "DT_FLOAT4", "DT_INT4", "DT_UINT4", "DT_INT2", "DT_UINT2")
_RARE = {number for name, number in DataType.items() if name.startswith(_WITHOUT_NUMPY_TYPE)}


def decode(tensor: Any) -> np.ndarray:
    """The array that a TensorProto stands for, as `serving.wire.to_array` reads it.

    Quantised types, the small floats and strings in `tensor_content` go through TensorFlow's own conversion: kernels
    take them, and NumPy has no types of its own for them.

    Raises:
        TensorError: the message does not describe a tensor.
    """
    if tensor.dtype not in _RARE and not (tensor.dtype == STRING and tensor.tensor_content):
        return to_array(tensor, bfloat16=ml_dtypes.bfloat16)
    try:
        dtype = tf.dtypes.as_dtype(tensor.dtype)
        array = tf.io.parse_tensor(tensor.SerializeToString(), dtype).numpy()
    except (TypeError, tf.errors.OpError, NotImplementedError) as error:
        raise TensorError(str(error)) from None
    return np.asarray(array, dtype=object if dtype == tf.string else None)


def dtype_number(dtype: np.dtype) -> int:
    """TensorFlow's number of a NumPy dtype; 0 (DT_INVALID) if it has none.

    >>> dtype_number(np.dtype("f4")), dtype_number(np.dtype(object)), dtype_number(np.dtype("M8[s]"))
    (1, 7, 0)
    """
    try:
        return int(tf.dtypes.as_dtype(dtype).as_datatype_enum)
    except TypeError:
        return 0


def dtype_name(dtype: int | np.dtype) -> str:
    """`DT_FLOAT` for a number or a NumPy dtype.

    >>> dtype_name(1), dtype_name(np.dtype("i8"))
    ('DT_FLOAT', 'DT_INT64')
    """
    return str(DataType.Name(dtype if isinstance(dtype, int) else dtype_number(dtype)))


def short_dtype_name(dtype: int | np.dtype) -> str:
    """`float` for a number or a NumPy dtype, as `DataTypeString` prints it.

    >>> short_dtype_name(1), short_dtype_name(9), short_dtype_name(19)
    ('float', 'int64', 'half')
    """
    return dtype_name(dtype)[3:].lower()


def shape_text(shape: tuple[int, ...]) -> str:
    """`[2,3]`, as `TensorShape::DebugString` prints it."""
    return "[" + ",".join(map(str, shape)) + "]"
