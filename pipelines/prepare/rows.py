"""What travels through the pipeline: Arrow record batches, and how they are coded between workers."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

PLACE = "__place__"
"""uint64: file index (upper 20 bits) and byte offset or row number in it (lower 44); unique and fixed."""
LINE = "__line__"
"""int64: lines of the same block before the row's line."""
TEXT = "__text__"
"""binary: the row as it stood in its file."""
FILE_SHIFT = 44

ORDER = "__order__"
"""uint64: the row's position in the base order; unique."""
EVAL = "__eval__"
"""bool: whether the row is held out."""
TIME = "__time__"
"""float64: when the row happened, until the split by time is decided."""

REJECTED = pa.schema(
    [
        (PLACE, pa.uint64()),
        (LINE, pa.int64()),
        ("reason", pa.string()),
        ("text", pa.string()),
    ]
)
TEXT_CHARACTERS = 500
"""A rejected row's text is cut to this length."""


class ArrowBatchCoder(beam.coders.Coder):
    """Arrow IPC. Beam's default would pickle, and pickle a slice together with the whole batch it is cut from."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        """One IPC stream with one batch."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_batch(value)
        return sink.getvalue().to_pybytes()

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """The batch back."""
        return pa.ipc.open_stream(encoded).read_next_batch()

    def estimate_size(self, value: pa.RecordBatch) -> int:
        """Bytes in memory. Beam asks for a sample of the elements and would encode each to find out."""
        return value.nbytes

    def is_deterministic(self) -> bool:
        """Batches are never keys."""
        return False


beam.coders.registry.register_coder(pa.RecordBatch, ArrowBatchCoder)


def rejected(places, lines, reasons, texts) -> pa.RecordBatch:
    """A batch of rejected rows from parallel lists; bytes in `texts` are decoded as well as they can be."""
    cut = [
        (text.decode("utf-8", "replace") if isinstance(text, bytes) else text).rstrip("\r\n")[
            :TEXT_CHARACTERS
        ]
        for text in texts
    ]
    arrays = [
        pa.array(places, pa.uint64()),
        pa.array(lines, pa.int64()),
        pa.array(reasons, pa.string()),
        pa.array(cut, pa.string()),
    ]
    return pa.record_batch(arrays, schema=REJECTED)
