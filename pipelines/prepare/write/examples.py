"""Blocks of rows as serialized `tf.train.Example`s, written as the wire format itself.

A `BytesList` is, value after value, a tag, a length and the bytes. A column of text with that prefix before each value *is*
the encoded list of any block of its rows: a block costs a slice and not a loop over its rows. Text gets the prefix early
(`wire_text`), once for each distinct value of a batch.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ranker.layout import BLOCK_ROWS

_BYTES_LIST, _FLOAT_LIST = 1, 2  # fields of tf.train.Feature


def wire_text(text: pa.StringArray) -> pa.BinaryArray:
    """Each value (none null) as it stands in a `BytesList`."""
    values = text.cast(pa.binary())
    lengths = pc.binary_length(values)
    distinct = pc.unique(lengths)
    prefixes = pa.array([_header(1, length) for length in distinct.to_pylist()], pa.binary())
    prefix = prefixes.take(pc.index_in(lengths, distinct))
    return pc.binary_join_element_wise(prefix, values, pa.scalar(b"", pa.binary()))


def plain_text(wire: pa.BinaryArray) -> pa.StringArray:
    """What `wire_text` was made from."""
    encoded = wire.dictionary_encode()
    values = pa.array([_value(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return values.take(encoded.indices)


def is_empty(wire: pa.BinaryArray) -> pa.BooleanArray:
    """Which values of `wire_text` are the empty text."""
    return pc.equal(pc.binary_length(wire), len(_header(1, 0)))


def encode(rows: pa.RecordBatch, block_rows: int = BLOCK_ROWS) -> list[bytes]:
    """Encodes rows in blocks.

    Args:
        rows: by column, text as `wire_text` gives it (binary), or float32.
        block_rows: rows a block; the last one may have fewer.

    Returns:
        One serialized Example a block; features in the order of their names.
    """
    starts = range(0, rows.num_rows, block_rows)
    blocks: list[list[bytes | memoryview]] = [[] for _ in starts]
    for name in sorted(rows.schema.names):
        column = rows.column(name)
        kind = _FLOAT_LIST if pa.types.is_floating(column.type) else _BYTES_LIST
        payloads = (_floats if kind == _FLOAT_LIST else _texts)(column, starts, block_rows)
        for parts, payload in zip(blocks, payloads, strict=True):
            parts += (_opening(name, kind, len(payload)), payload)
    return [b"".join((_header(1, sum(map(len, parts))), *parts)) for parts in blocks]


def _texts(column: pa.BinaryArray, starts: range, block_rows: int) -> list[memoryview]:
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    data, cuts = (
        memoryview(column.buffers()[2]),
        [*offsets[starts.start : -1 : block_rows].tolist(), int(offsets[-1])],
    )
    return [data[start:end] for start, end in pairwise(cuts)]


def _floats(column: pa.FloatArray, starts: range, block_rows: int) -> list[memoryview]:
    data = memoryview(column.to_numpy().astype("<f4", copy=False)).cast("B")
    return [data[4 * start : 4 * (start + block_rows)] for start in starts]


@lru_cache(4096)
def _opening(name: str, kind: int, length: int) -> bytes:
    """All that stands before a payload: entry of the map, its key, the Feature, the list."""
    values = _header(1, length) if kind == _FLOAT_LIST else b""  # floats are packed into one field
    values = _header(kind, len(values) + length) + values
    key = _header(1, len(name.encode())) + name.encode()
    feature = _header(2, len(values) + length) + values
    return _header(1, len(key) + len(feature) + length) + key + feature


def _header(number: int, length: int) -> bytes:
    """Tag of a length-delimited field, and the length as a varint."""
    out = bytearray([number << 3 | 2])
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)


def _value(wire: bytes) -> bytes:
    at = 1
    while wire[at] > 0x7F:
        at += 1
    return wire[at + 1 :]
