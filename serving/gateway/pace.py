"""How long an answer usually takes, and when one is late. Plain state, no clock."""

from __future__ import annotations

_KNOWN_AFTER = 10
_EARN, _MOST = 0.1, 20.0


class Pace:
    """The usual time of one kind of call, by exponential averages.

    An answer is late after the usual time plus four mean deviations, as a TCP segment is (RFC 6298). Before ten
    answers nothing is usual: the first are slower than the rest.

    Args:
      shortest: seconds; below it nothing is late: a busy machine's own noise.
      longest: seconds; above it everything is, also at first.
    """

    def __init__(self, shortest: float = 0.01, longest: float = 1.0) -> None:
        self._shortest, self._longest = shortest, longest
        self._late_after = longest
        self._answers = 0
        self._usual = self._deviation = 0.0

    @property
    def late_after(self) -> float:
        """Seconds after which an answer is late."""
        return self._late_after

    def observe(self, seconds: float) -> None:
        """Notes how long an answer that a caller got took."""
        self._answers += 1
        if self._answers == 1:
            self._usual, self._deviation = seconds, seconds / 2
        else:
            self._deviation += (abs(seconds - self._usual) - self._deviation) / 4
            self._usual += (seconds - self._usual) / 8
        if self._answers >= _KNOWN_AFTER:
            self._late_after = min(max(self._usual + 4 * self._deviation, self._shortest), self._longest)


class Budget:
    """How many calls may be asked twice: a tenth of all, twenty at once, so that a slow fleet isn't asked double."""

    def __init__(self) -> None:
        self._left = _MOST

    def earn(self) -> None:
        """Notes a call."""
        self._left = min(self._left + _EARN, _MOST)

    def spend(self) -> bool:
        """Takes the right to ask once more; False if there is none left."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
