"""TFRecord files: length, its checksum, the record, its checksum; and the file's own SHA-256."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import google_crc32c


class Writer:
    """Writes records to one file: a context manager that closes it."""

    def __init__(self, path: Path):
        self._sink = path.open("wb")
        self._hash = hashlib.sha256()
        self.records = 0
        self.bytes = 0

    def write(self, records: list[bytes]) -> None:
        """Appends records."""
        for record in records:
            length = struct.pack("<Q", len(record))
            for part in (length + _checksum(length), record, _checksum(record)):
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


def _checksum(data: bytes) -> bytes:
    """The masked CRC-32C that TFRecord stores: rotated right by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
