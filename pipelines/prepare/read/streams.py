"""Binary streams: what stands before a stream, and encodings whose bytes do not show lines."""

from __future__ import annotations

import codecs
import re
from typing import Protocol


class Readable(Protocol):
    """A binary stream, as far as it is used here."""

    def read(self, size: int = -1, /) -> bytes:
        """Returns at most `size` bytes, none only at the end."""


def is_line_safe(encoding: str) -> bool:
    r"""Whether byte 10 is the end of a line and nothing else, and ASCII is itself: UTF-8 and the one-byte families."""
    name = codecs.lookup(encoding).name
    return bool(
        re.fullmatch(r"utf-8|utf-8-sig|ascii|iso8859-\d+|cp125\d|cp437|cp85\d|koi8-[a-z]|mac-roman", name)
    )


class Prepended:
    """A stream after bytes that were already taken from it."""

    def __init__(self, head: bytes, rest: Readable):
        self._head = head
        self._rest = rest

    @property
    def damage(self) -> str | None:
        """Why the stream ended early, if it did."""
        return getattr(self._rest, "damage", None)

    def read(self, size: int = -1, /) -> bytes:
        """Returns at most `size` bytes, none only at the end."""
        if not self._head:
            return self._rest.read(size)
        head, self._head = self._head[:size], self._head[size:]
        return head


class Transcode:
    """Decodes any encoding Python knows and gives UTF-8. What does not decode becomes U+FFFD."""

    def __init__(self, raw: Readable, encoding: str):
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._ended = False

    @property
    def damage(self) -> str | None:
        """Why the stream below ended early, if it did."""
        return getattr(self._raw, "damage", None)

    def read(self, size: int = -1, /) -> bytes:
        """Returns about `size` bytes, none only at the end."""
        while not self._ended:
            source = self._raw.read(size)
            self._ended = not source
            text = self._decoder.decode(source, final=self._ended)
            if text:
                return text.encode("utf-8", "replace")
        return b""
