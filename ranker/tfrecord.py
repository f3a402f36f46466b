"""TFRecord files without TensorFlow: length, its checksum, the record, its checksum."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from ranker.errors import UserError


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


def records(path: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file.

    Raises:
        UserError: the file cannot be read, is cut off, or a checksum is wrong.
    """
    try:
        with path.open("rb") as stream:
            position = 0
            while header := stream.read(12):
                if len(header) < 12 or _checksum(header[:8]) != header[8:]:
                    raise UserError(f"{path}: is no TFRecord file, or damaged, at byte {position}")
                length = struct.unpack("<Q", header[:8])[0]
                record, checksum = stream.read(length), stream.read(4)
                if len(record) < length or _checksum(record) != checksum:
                    raise UserError(f"{path}: the record at byte {position} is cut off or damaged")
                yield record
                position += 16 + length
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _checksum(data: bytes) -> bytes:
    """The masked CRC-32C that TFRecord stores: rotated right by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
