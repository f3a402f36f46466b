"""HPACK: a decoder with its dynamic table, and the few header blocks a gRPC server sends.

Source: RFC 7541.
"""

from __future__ import annotations

from collections import deque

from serving.http2 import huffman

Header = tuple[bytes, bytes]

_STATIC: tuple[Header, ...] = tuple(
    (name, value)
    for name, value in [
        (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"),
        (b":path", b"/index.html"), (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"),
        (b":status", b"204"), (b":status", b"206"), (b":status", b"304"), (b":status", b"400"),
        (b":status", b"404"), (b":status", b"500"), (b"accept-charset", b""),
        (b"accept-encoding", b"gzip, deflate"), (b"accept-language", b""), (b"accept-ranges", b""),
        (b"accept", b""), (b"access-control-allow-origin", b""), (b"age", b""), (b"allow", b""),
        (b"authorization", b""), (b"cache-control", b""), (b"content-disposition", b""),
        (b"content-encoding", b""), (b"content-language", b""), (b"content-length", b""),
        (b"content-location", b""), (b"content-range", b""), (b"content-type", b""), (b"cookie", b""),
        (b"date", b""), (b"etag", b""), (b"expect", b""), (b"expires", b""), (b"from", b""), (b"host", b""),
        (b"if-match", b""), (b"if-modified-since", b""), (b"if-none-match", b""), (b"if-range", b""),
        (b"if-unmodified-since", b""), (b"last-modified", b""), (b"link", b""), (b"location", b""),
        (b"max-forwards", b""), (b"proxy-authenticate", b""), (b"proxy-authorization", b""), (b"range", b""),
        (b"referer", b""), (b"refresh", b""), (b"retry-after", b""), (b"server", b""), (b"set-cookie", b""),
        (b"strict-transport-security", b""), (b"transfer-encoding", b""), (b"user-agent", b""),
        (b"vary", b""), (b"via", b""), (b"www-authenticate", b""),
    ]
)  # fmt: skip
_ENTRY_OVERHEAD = 32
MAX_TABLE_BYTES = 4096
MAX_LIST_BYTES = 64 * 1024


class HpackError(ValueError):
    """A header block that is not HPACK; the connection can't go on."""


class Decoder:
    """Decodes the header blocks of one connection, in order.

    `generation` changes with the table, so that a caller may remember what a block decoded to.
    """

    def __init__(self) -> None:
        self._table: deque[Header] = deque()
        self._size = 0
        self._limit = MAX_TABLE_BYTES
        self.generation = 0

    def decode(self, block: bytes) -> list[Header]:
        """The headers of one block.

        Raises:
            HpackError: the block is damaged, or its headers exceed `MAX_LIST_BYTES`.
        """
        try:
            return self._decode(block)
        except (IndexError, ValueError) as error:
            raise HpackError(str(error)) from None

    def _decode(self, block: bytes) -> list[Header]:
        headers: list[Header] = []
        position, total = 0, 0
        while position < len(block):
            first = block[position]
            if first & 0x80:
                index, position = _integer(block, position, 7)
                header = self._lookup(index)
            elif first & 0xE0 == 0x20:
                limit, position = _integer(block, position, 5)
                if limit > MAX_TABLE_BYTES:
                    raise HpackError("table size update above the limit")
                self._limit = limit
                self._evict()
                continue
            else:
                indexed = first & 0x40
                index, position = _integer(block, position, 6 if indexed else 4)
                if index:
                    name = self._lookup(index)[0]
                else:
                    name, position = _string(block, position)
                value, position = _string(block, position)
                header = (name, value)
                if indexed:
                    self._table.appendleft(header)
                    self._size += len(name) + len(value) + _ENTRY_OVERHEAD
                    self._evict()
            total += len(header[0]) + len(header[1]) + _ENTRY_OVERHEAD
            if total > MAX_LIST_BYTES:
                raise HpackError("header list too large")
            headers.append(header)
        return headers

    def _lookup(self, index: int) -> Header:
        if index <= 0:
            raise HpackError("index 0")
        if index <= len(_STATIC):
            return _STATIC[index - 1]
        return self._table[index - len(_STATIC) - 1]

    def _evict(self) -> None:
        self.generation += 1
        while self._size > self._limit:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + _ENTRY_OVERHEAD


def encode(headers: list[Header]) -> bytes:
    """A block of literals that touches no table; for the few headers a server sends.

    >>> Decoder().decode(encode([(b"grpc-status", b"0")]))
    [(b'grpc-status', b'0')]
    """
    block = bytearray()
    for header in headers:
        if header in _STATIC:
            block.append(0x80 | _STATIC.index(header) + 1)
            continue
        block.append(0)
        for text in header:
            _append_integer(block, len(text), 7)
            block += text
    return bytes(block)


def _integer(block: bytes, position: int, bits: int) -> tuple[int, int]:
    mask = (1 << bits) - 1
    value = block[position] & mask
    position += 1
    if value < mask:
        return value, position
    shift = 0
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
        if shift > 28:
            raise HpackError("integer too large")


def _append_integer(block: bytearray, value: int, bits: int) -> None:
    mask = (1 << bits) - 1
    if value < mask:
        block.append(value)
        return
    block.append(mask)
    value -= mask
    while value >= 0x80:
        block.append(value & 0x7F | 0x80)
        value >>= 7
    block.append(value)


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    coded = block[position] & 0x80
    length, position = _integer(block, position, 7)
    end = position + length
    if end > len(block):
        raise HpackError("string cut short")
    text = block[position:end]
    return (huffman.decode(text) if coded else text), end
