"""Stable 64-bit hashes of columns, vectorised: the same on every machine, runner and version of a library."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_WORD_MASKS = np.array([(1 << (8 * n)) - 1 for n in range(8)] + [2**64 - 1], np.uint64)


def mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection of 64-bit integers that scatters.

    Args:
        values: uint64 of any shape.

    Returns:
        uint64 of the same shape. Distinct inputs have distinct outputs.
    """
    z = values + _MULTIPLIER
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def hash_text(column: pa.Array, seed: int = 0) -> np.ndarray:
    """Hashes UTF-8 text, eight bytes at a time.

    Args:
        column: `string` or dictionary of `string`; null hashes as the empty text.
        seed: another seed gives an unrelated hash.

    Returns:
        uint64 of the column's length.
    """
    if pa.types.is_dictionary(column.type):
        return _hash_dictionary(column, seed)
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    starts, lengths = offsets[:-1].astype(np.int64), np.diff(offsets).astype(np.int64)
    data = column.buffers()[2]
    padded = np.zeros(int(offsets[-1]) + 8 if len(offsets) else 8, np.uint8)
    if data is not None:
        padded[: offsets[-1]] = np.frombuffer(data, np.uint8)[: offsets[-1]]
    words = np.lib.stride_tricks.as_strided(padded[:8].view("<u8"), (len(padded) - 7,), (1,))
    if column.null_count:
        lengths = np.where(column.is_null().to_numpy(zero_copy_only=False), 0, lengths)
    state = np.full(len(column), mix(np.array([seed], np.uint64))[0]) ^ lengths.astype(np.uint64)
    active = np.flatnonzero(lengths > 0)
    position = 0
    while len(active):
        word_bytes = np.minimum(lengths[active] - position, 8)
        word = words[starts[active] + position] & _WORD_MASKS[word_bytes]
        state[active] = mix(state[active] ^ word)
        position += 8
        active = active[lengths[active] > position]
    return mix(state)


def hash_columns(columns: list[pa.Array], seed: int = 0) -> np.ndarray:
    """One hash a row over several text columns; their order matters."""
    state = np.full(len(columns[0]), np.uint64(seed))
    for column in columns:
        state = mix(state ^ hash_text(column, seed))
    return state


def _hash_dictionary(column: pa.DictionaryArray, seed: int) -> np.ndarray:
    # One slot more than the dictionary: the hash of the empty text, where a null index points.
    table = np.append(hash_text(column.dictionary, seed), hash_text(pa.array([""], pa.string()), seed))
    indices = column.indices.fill_null(len(table) - 1)
    return table[indices.to_numpy()]
