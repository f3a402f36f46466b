"""A uniform sample of the calls of an interval, in bounded memory."""

from __future__ import annotations

import random
from dataclasses import dataclass
from threading import Lock

MAX_BYTES = 64 << 20
"""Default limit of what a reservoir holds: 64 MiB."""


@dataclass(frozen=True)
class MirroredCall:
    """A call as it arrived, not decoded.

    Attributes:
        body: the serialized request.
        request_id: the caller's `x-request-id`; empty if it sent none.
    """

    body: bytes
    request_id: str = ""


@dataclass(frozen=True)
class CallSample:
    """The sampled calls of an interval.

    Attributes:
        calls: the sampled calls.
        seen: calls that arrived.
        dropped: calls that were lost: broken off, too large, or removed again because the sample was too large.
    """

    calls: tuple[MirroredCall, ...]
    seen: int
    dropped: int


class Reservoir:
    """Keeps `capacity` of the calls since the last `take`, each subset as likely as any other.

    Source: Vitter, "Random Sampling with a Reservoir" (1985), Algorithm R. Where the calls outgrow `max_bytes`, random
    ones are removed and the capacity falls to what fits: the rest is a uniform sample still.

    Args:
        capacity: calls to keep, at least 1.
        max_bytes: bytes to keep, ids included; a call of more than an eighth of it is dropped.
        generator: of random numbers; None: seeded by the system.
    """

    def __init__(
        self, capacity: int, *, max_bytes: int = MAX_BYTES, generator: random.Random | None = None
    ) -> None:
        self._capacity, self._max_bytes = capacity, max_bytes
        self._random = generator or random.Random()
        self._lock = Lock()
        self._clear()

    def _clear(self) -> None:
        self._calls: list[MirroredCall] = []
        self._limit = self._capacity
        self._bytes = self._seen = self._eligible = self._dropped = 0

    def offer(self, call: MirroredCall) -> None:
        """Counts a call, and keeps it if the draw says so. Takes microseconds; thread-safe."""
        size = _size(call)
        with self._lock:
            self._seen += 1
            if size > self._max_bytes // 8:
                self._dropped += 1
                return
            self._eligible += 1
            if len(self._calls) < self._limit:
                self._calls.append(call)
            else:
                place = self._random.randrange(self._eligible)
                if place >= self._limit:
                    return
                self._bytes -= _size(self._calls[place])
                self._calls[place] = call
            self._bytes += size
            while self._bytes > self._max_bytes:
                place = self._random.randrange(len(self._calls))
                self._bytes -= _size(self._calls[place])
                self._calls[place] = self._calls[-1]
                self._calls.pop()
                self._limit = len(self._calls)
                self._dropped += 1

    def count_lost(self) -> None:
        """Counts a call that did not arrive whole."""
        with self._lock:
            self._seen += 1
            self._dropped += 1

    def take(self) -> CallSample:
        """The sample since the last `take`; begins the next."""
        with self._lock:
            sample = CallSample(tuple(self._calls), self._seen, self._dropped)
            self._clear()
        return sample


def _size(call: MirroredCall) -> int:
    return len(call.body) + len(call.request_id)
