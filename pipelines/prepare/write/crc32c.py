"""CRC-32C of many byte strings at once, in NumPy.

TFRecord frames carry it. TensorFlow's writer would cost each worker seconds of import and half a gigabyte. A CRC is linear
over GF(2), so every string is cut into chunks of equal length, all chunks run side by side, and the chunks' remainders
are combined by the operator "followed by that many zero bytes".
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_POLYNOMIAL = np.uint32(0x82F63B78)  # Castagnoli, reflected
_CHUNK = 1024  # bytes
_MASK_DELTA = np.uint32(0xA282EAD8)


def masked_crc32c(strings: list[bytes]) -> np.ndarray:
    """The masked CRC-32C that TFRecord stores: rotated right by 15 bits plus a constant.

    Args:
        strings: byte strings, each at least four bytes long.

    Returns:
        uint32, one a string.
    """
    crc = crc32c(strings)
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + _MASK_DELTA


def crc32c(strings: list[bytes]) -> np.ndarray:
    """CRC-32C (RFC 3720, section 12.1) of each string.

    Args:
        strings: byte strings, each at least four bytes long.

    Returns:
        uint32, one a string.

    >>> hex(crc32c([b"123456789"])[0])
    '0xe3069283'
    """
    if not strings:
        return np.zeros(0, np.uint32)
    chunk = min(_CHUNK, -(-max(map(len, strings)) // 8) * 8)
    counts = np.array([-(-len(string) // chunk) for string in strings])
    remainders = _remainders(_padded(strings, counts, chunk), chunk)
    followed_by = _zeros_operator(chunk)
    ends = np.cumsum(counts)
    crc = np.zeros(len(strings), np.uint32)
    for step in range(int(counts.max())):
        # Strings end together: one with fewer chunks joins later.
        active = np.flatnonzero(counts >= counts.max() - step)
        chunks = ends[active] - counts.max() + step
        crc[active] = _apply(followed_by, crc[active]) ^ remainders[chunks]
    return crc ^ np.uint32(0xFFFFFFFF)


def _padded(strings: list[bytes], counts: np.ndarray, chunk: int) -> np.ndarray:
    """Strings with zeros before them, which a remainder that starts at zero does not see."""
    buffer = np.zeros(int(counts.sum()) * chunk, np.uint8)
    end = 0
    for string, count in zip(strings, counts.tolist(), strict=True):
        end += count * chunk
        buffer[end - len(string) : end] = np.frombuffer(string, np.uint8)
        buffer[end - len(string) : end - len(string) + 4] ^= 0xFF  # the initial value of all ones
    return buffer


def _remainders(buffer: np.ndarray, chunk: int) -> np.ndarray:
    """Remainders of all chunks, eight bytes a step, through four tables of 16-bit words."""
    words = buffer.view("<u2").reshape(-1, chunk // 2)
    first, second, third, fourth = _tables()
    crc = np.zeros(len(words), np.uint32)
    for start in range(0, chunk // 2, 32):
        columns = np.ascontiguousarray(words[:, start : start + 32].T)
        for at in range(0, len(columns), 4):
            crc = (
                fourth[columns[at] ^ (crc & np.uint32(0xFFFF)).astype(np.uint16)]
                ^ third[columns[at + 1] ^ (crc >> np.uint32(16)).astype(np.uint16)]
                ^ second[columns[at + 2]]
                ^ first[columns[at + 3]]
            )
    return crc


@lru_cache(1)
def _tables() -> list[np.ndarray]:
    table = np.arange(65536, dtype=np.uint32)
    for _ in range(16):
        table = (table >> np.uint32(1)) ^ np.where(table & np.uint32(1), _POLYNOMIAL, np.uint32(0))
    tables = [table]
    for _ in range(3):
        tables.append(table[tables[-1] & np.uint32(0xFFFF)] ^ (tables[-1] >> np.uint32(16)))
    return tables


@lru_cache(8)
def _zeros_operator(length: int) -> np.ndarray:
    """What `length` zero bytes (even) do to a remainder, as a table `[2, 65536]` of its two halves."""
    table = _tables()[0]
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(length // 2):
        bits = table[bits & np.uint32(0xFFFF)] ^ (bits >> np.uint32(16))
    values = np.arange(65536, dtype=np.uint32)
    halves = np.zeros((2, 65536), np.uint32)
    for bit in range(16):
        chosen = (values >> np.uint32(bit)) & np.uint32(1)
        halves[0] ^= chosen * bits[bit]
        halves[1] ^= chosen * bits[16 + bit]
    return halves


def _apply(operator: np.ndarray, crc: np.ndarray) -> np.ndarray:
    return operator[0][crc & np.uint32(0xFFFF)] ^ operator[1][crc >> np.uint32(16)]
