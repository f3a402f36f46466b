"""How long a model's runs take, by the size of the request."""

from __future__ import annotations

QUICK_SECONDS = 0.0004
"""Below this a run is over sooner than a second thread makes up for the fight over the interpreter lock."""

_WEIGHT = 0.25


class Pace:
    """Smoothed processor time of runs, for requests of 2^k to 2^(k+1) bytes each.

    Processor time, because a run on a busy machine takes longer by the clock wherever it happens.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def is_quick(self, size: int) -> bool:
        """Whether a request of `size` bytes runs for less than `QUICK_SECONDS`; False for an unknown size."""
        return self._seconds.get(size.bit_length(), QUICK_SECONDS) < QUICK_SECONDS

    def took(self, size: int, seconds: float) -> None:
        """Learns from one run."""
        bucket = size.bit_length()
        before = self._seconds.get(bucket, seconds)
        self._seconds[bucket] = before + _WEIGHT * (seconds - before)
