"""Sets of candidates as bits in 64-bit words: 64 comparisons of two replicas in one exclusive or."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def count_bits(words: Array) -> Array:
    """Set bits of each request's words [n, ...], int64 [n]."""
    counts = np.bitwise_count(words).reshape(len(words), math.prod(words.shape[1:]))
    # a product is several times faster than a reduction of bytes, and exact in float32 below 2^24
    dtype = np.float32 if counts.shape[1] < 2**18 else np.float64
    return (counts.astype(dtype) @ _ones(counts.shape[1], dtype)).astype(np.int64)


def pack_bits(flags: Array) -> Array:
    """Flags of columns, bool [n, K], as bits in the order of `unit_words`: uint64 [n, ceil(K / 64)]."""
    packed = np.packbits(flags, axis=1, bitorder="little")
    words = np.zeros((len(flags), -(-flags.shape[1] // 64) * 8), dtype=np.uint8)
    words[:, : packed.shape[1]] = packed
    return words.view("<u8")


def unit_words(columns: int) -> Array:
    """Word of each column alone, uint64 [columns, ceil(columns / 64)]."""
    column = np.arange(columns)
    words = np.zeros((columns, -(-columns // 64)), dtype=np.uint64)
    words[column, column // 64] = np.uint64(1) << (column % 64).astype(np.uint64)
    return words


def count_true(flags: Array) -> Array:
    """Number of True along the first axis of bool [k, n], int64 [n]; added in bytes where they suffice."""
    wide = np.uint8 if len(flags) < 256 else np.int64
    return np.add.reduce(flags.view(np.uint8), axis=0, dtype=wide).astype(np.int64)


def row_sums(values: Array) -> Array:
    """Sum along the last axis of [n, K], float64 [n]: as a product, faster than a reduction for short rows."""
    return values.astype(np.float64, copy=False) @ _ones(values.shape[1], np.float64)


@lru_cache(maxsize=64)
def _ones(columns: int, dtype: type) -> Array:
    return np.ones(columns, dtype)
