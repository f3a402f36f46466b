"""One call: the request as it arrives, and how much of the answer the peer will take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Stream:
    """State of one HTTP/2 stream.

    Attributes:
        number: its id.
        path: the method called.
        metadata: the request's headers.
        deadline: monotonic seconds, or None.
        body: request bytes so far, with the message's prefix.
        window: bytes of answer the peer takes now.
        unacknowledged: request bytes not yet given back to the peer's window.
        cancelled: the peer reset the stream or went away.
        rest: bytes of answer that wait for the peer's window; the loop's thread alone touches them.
        sent: called once `rest` is empty; None if nothing follows but the status.
        moved: monotonic seconds when `rest` last grew or shrank.
    """

    number: int
    path: str
    metadata: dict[str, str]
    deadline: float | None
    body: bytearray = field(default_factory=bytearray)
    window: int = 0
    unacknowledged: int = 0
    cancelled: bool = False
    rest: bytearray = field(default_factory=bytearray)
    sent: Callable[[], None] | None = None
    moved: float = 0.0
