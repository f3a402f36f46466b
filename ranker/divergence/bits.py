"""Sets of candidates as bits in 64-bit words: 64 comparisons of two replicas in one exclusive or."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def popcount(words: Array) -> Array:
    """Number of set bits of each unsigned 64-bit word (NumPy has it from 2.0 on)."""
    native: Callable[[Array], Array] | None = getattr(np, "bitwise_count", None)
    return native(words) if native is not None else popcount_by_halves(words)


def popcount_by_halves(words: Array) -> Array:
    """`popcount` in plain arithmetic: sums of neighbouring 1, 2 and 4 bit fields, then of the bytes."""
    one, two, four, byte = (
        np.uint64(x) for x in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x0101010101010101)
    )
    x = words - ((words >> np.uint64(1)) & one)
    x = (x & two) + ((x >> np.uint64(2)) & two)
    x = (x + (x >> np.uint64(4))) & four
    return ((x * byte) >> np.uint64(56)).astype(np.uint8)


def count_bits(words: Array) -> Array:
    """Set bits of each request's words [n, K, W], int64 [n]."""
    return popcount(words).sum(axis=(1, 2), dtype=np.int64)


def pack_words(flags: Array) -> Array:
    """Pack booleans [..., K] into uint64 words [..., ceil(K / 64)], each in the same order of bits."""
    columns = flags.shape[-1]
    width = -(-columns // 64) * 64
    if width != columns:
        padded = np.zeros((*flags.shape[:-1], width), dtype=bool)
        padded[..., :columns] = flags
        flags = padded
    return np.packbits(flags, axis=-1).view(np.uint64)
