"""Compressed streams. A damaged file gives its bytes up to the damage; then `damage` says why it ends.

The decompressors of zlib, bz2, lzma and zstandard get small pieces, so that only what follows the damage is lost. Their own
file objects raise an error and lose what they had already decompressed.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipelines.prepare.read.streams import Readable
from ranker.errors import UserError

_INPUT_BYTES = 16 << 10
_HEAD_BYTES = 8


@dataclass(frozen=True)
class Codec:
    """A way to compress.

    Attributes:
        name: for people.
        make: a new decompressor, with `decompress(bytes)`, `eof` and `unused_data`.
        errors: what it raises on damage.
    """

    name: str
    make: Callable[[], Any]
    errors: tuple[type[Exception], ...]


def _zstd() -> Any:
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj(read_across_frames=False)


def _zstd_errors() -> tuple[type[Exception], ...]:
    import zstandard

    return (zstandard.ZstdError,)


_REFUSED = {
    b"PK\x03\x04": "zip",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf": "7z",
    b"\x1f\x9d": "compress (.Z)",
    b"\x5d\x00\x00": "lzma (.lzma)",
    b"\xff\x06\x00\x00sN": "snappy",
    b"LZIP": "lzip",
}
_OTHER_FORMATS = {
    b"ARROW1": "an Arrow (Feather) file",
    b"ORC": "an ORC file",
    b"Obj\x01": "an Avro file",
    b"SQLite f": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"\xd0\xcf\x11\xe0": "an Excel file",
    b"%PDF": "a PDF file",
    b"\x89PNG": "a picture",
    b"\x80\x04\x95": "a pickle",
}


def codec_of(stream: BinaryIO, path: str) -> Codec | None:
    """The codec of a file, by its first bytes; None if it is not compressed. The stream is rewound.

    Raises:
        UserError: it is compressed in a way, or of a format, that cannot be read.
    """
    head = stream.read(_HEAD_BYTES)
    stream.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return Codec("gzip", lambda: zlib.decompressobj(31), (zlib.error,))
    if head.startswith(b"BZh"):
        return Codec("bzip2", bz2.BZ2Decompressor, (OSError, ValueError, EOFError))
    if head.startswith(b"\xfd7zXZ\x00"):
        return Codec("xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ), (lzma.LZMAError, EOFError))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return Codec("zstd", _zstd, _zstd_errors())
    for magic, name in _REFUSED.items():
        if head.startswith(magic):
            raise UserError(
                f"{path}: is compressed with {name}, which cannot be read; use gzip, bzip2, xz, zstd or no compression"
            )
    for magic, name in _OTHER_FORMATS.items():
        if head.startswith(magic):
            raise UserError(
                f"{path}: is {name}, which cannot be read; write Parquet, CSV, JSON lines or libsvm"
            )
    return None


class Decompressed:
    """The content of a compressed stream, of several members or frames too.

    Attributes:
        damage: why the stream ended early, if it did.
    """

    def __init__(self, raw: Readable, codec: Codec):
        self._raw = raw
        self._codec = codec
        self._decompressor = codec.make()
        self._input = b""
        self._output = bytearray()
        self._ended = False
        self.damage: str | None = None

    def read(self, size: int = -1, /) -> bytes:
        """Returns `size` bytes, fewer only at the end or at the damage."""
        while (size < 0 or len(self._output) < size) and not self._ended:
            self._step()
        end = len(self._output) if size < 0 else size
        part = bytes(self._output[:end])
        del self._output[:end]
        return part

    def _step(self) -> None:
        source = self._input or self._raw.read(_INPUT_BYTES)
        self._input = b""
        if self._decompressor.eof:
            source = source.lstrip(b"\0")  # padding between members
            if not source:
                self._ended = not (source := self._raw.read(_INPUT_BYTES))
                self._input = source
                return
            self._decompressor = self._codec.make()
        if not source:
            self._ended = True
            self.damage = f"truncated {self._codec.name}: the rest of the file is missing"
            return
        before = self._decompressor.copy() if hasattr(self._decompressor, "copy") else None
        try:
            self._output += self._decompressor.decompress(source)
        except self._codec.errors as error:
            self.damage, self._ended = f"damaged {self._codec.name}: {error}", True
            if before is not None:
                self._output += self._salvage(before, source)
            return
        if self._decompressor.eof:
            self._input = self._decompressor.unused_data

    def _salvage(self, decompressor: Any, source: bytes) -> bytes:
        """What comes out before the error, which a call on all of the input has thrown away."""
        output = bytearray()
        for at in range(len(source)):
            try:
                output += decompressor.decompress(source[at : at + 1])
            except self._codec.errors:
                break
        return bytes(output)
