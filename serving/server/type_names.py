"""Names of dtypes and shapes as TensorFlow's error texts spell them."""

from __future__ import annotations

import numpy as np
from tensorflow.core.framework import types_pb2

from serving.server.tensors import DTYPE_ENUM


def dtype_name(dtype: int | np.dtype) -> str:
    """`DT_FLOAT` for an enum or a NumPy dtype.

    >>> dtype_name(1), dtype_name(np.dtype("i8"))
    ('DT_FLOAT', 'DT_INT64')
    """
    enum = dtype if isinstance(dtype, int) else DTYPE_ENUM.get(dtype, 0)
    return types_pb2.DataType.Name(enum)


def short_dtype_name(dtype: int) -> str:
    """`float` for an enum, as `DataTypeString` prints it.

    >>> short_dtype_name(1), short_dtype_name(9), short_dtype_name(19)
    ('float', 'int64', 'half')
    """
    return types_pb2.DataType.Name(dtype)[3:].lower()


def shape_text(shape: tuple[int, ...]) -> str:
    """`[2,3]`, as `TensorShape::DebugString` prints it."""
    return "[" + ",".join(map(str, shape)) + "]"
