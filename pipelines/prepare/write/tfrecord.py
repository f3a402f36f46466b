"""TFRecord files: length, its checksum, the record, its checksum; and the file's own SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from pipelines.prepare.write.crc32c import masked_crc32c


class Writer:
    """Writes records to one file: a context manager that closes it."""

    def __init__(self, path: Path):
        self._sink = path.open("wb")
        self._hash = hashlib.sha256()
        self.records = 0
        self.bytes = 0

    def write(self, records: list[bytes]) -> None:
        """Appends records."""
        lengths = [np.uint64(len(record)).astype("<u8").tobytes() for record in records]
        heads = masked_crc32c(lengths).astype("<u4")
        tails = masked_crc32c(records).astype("<u4")
        for length, head, record, tail in zip(lengths, heads, records, tails, strict=True):
            for part in (length + head.tobytes(), record, tail.tobytes()):
                self._sink.write(part)
                self._hash.update(part)
                self.bytes += len(part)
        self.records += len(records)

    @property
    def sha256(self) -> str:
        """Of all that was written, in hex."""
        return self._hash.hexdigest()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.close()
