"""One call: what arrives of it, and how much of the other direction the peer will take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from serving.http2.hpack import Header


@dataclass
class Stream:
    """State of one HTTP/2 stream.

    "Message" is the one that arrives: the request on a server's side, the answer on a client's.

    Attributes:
        number: its id.
        path: the method called.
        metadata: headers that came with the message.
        deadline: monotonic seconds, or None.
        headers: the same headers as they came, keys that stand twice twice; of an answer the last block.
        body: bytes of the message so far, with its prefix.
        window: bytes of the other direction that the peer takes now.
        unacknowledged: bytes of the message not yet given back to the peer's window.
        cancelled: the peer reset the stream or went away.
        rest: bytes of the other direction that wait for the peer's window; one thread alone touches them.
        sent: called once `rest` is empty.
        moved: monotonic seconds when `rest` last grew or shrank.
    """

    number: int
    path: str
    metadata: dict[str, str]
    deadline: float | None
    headers: list[Header] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    window: int = 0
    unacknowledged: int = 0
    cancelled: bool = False
    rest: bytearray = field(default_factory=bytearray)
    sent: Callable[[], None] | None = None
    moved: float = 0.0
