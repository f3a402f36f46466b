"""Blocks of rows as serialized `tf.train.Example`s, written as the wire format itself.

A `BytesList` is, value after value, a tag, a length and the bytes: a column of text with a two-byte prefix before each
value *is* the encoded list of any block of its rows, so that a block costs a slice and not a loop over its rows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ranker.layout import BLOCK_ROWS


def encode(rows: pa.RecordBatch, block_rows: int = BLOCK_ROWS) -> list[bytes]:
    """Encodes rows in blocks.

    Args:
        rows: plain text without nulls, or float32, by column.
        block_rows: rows a block; the last one may have fewer.

    Returns:
        One serialized Example a block; features in the order of their names.
    """
    starts = range(0, rows.num_rows, block_rows)
    blocks: list[list[bytes]] = [[] for _ in starts]
    for name in sorted(rows.schema.names):
        column = rows.column(name)
        lists = _float_lists if pa.types.is_floating(column.type) else _bytes_lists
        for parts, feature in zip(blocks, lists(column, starts, block_rows), strict=True):
            # map<string, Feature>: each entry is a message of key and value.
            parts.append(_field(1, _field(1, name.encode()) + _field(2, feature)))
    return [_field(1, b"".join(parts)) for parts in blocks]


def _bytes_lists(column: pa.StringArray, starts: range, block_rows: int) -> list[bytes]:
    values = column.cast(pa.binary())
    lengths = pc.binary_length(values)
    distinct = pc.unique(lengths)
    prefixes = pa.array([_header(1, length) for length in distinct.to_pylist()], pa.binary())
    prefix = prefixes.take(pc.index_in(lengths, distinct))
    encoded = pc.binary_join_element_wise(prefix, values, b"")
    offsets = np.frombuffer(encoded.buffers()[1], np.int32)[
        encoded.offset : encoded.offset + len(encoded) + 1
    ]
    data = memoryview(encoded.buffers()[2] or b"")
    last = len(column)
    return [_field(1, bytes(data[offsets[s] : offsets[min(s + block_rows, last)]])) for s in starts]


def _float_lists(column: pa.FloatArray, starts: range, block_rows: int) -> list[bytes]:
    values = column.to_numpy().astype("<f4", copy=False)
    return [_field(2, _field(1, values[s : s + block_rows].tobytes())) for s in starts]


def _field(number: int, payload: bytes) -> bytes:
    return _header(number, len(payload)) + payload


def _header(number: int, length: int) -> bytes:
    """Tag of a length-delimited field, and the length as a varint."""
    out = bytearray([number << 3 | 2])
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)
