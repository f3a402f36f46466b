"""When to leave a replica alone, and when to try it again. Plain state over a clock that is passed in."""

from __future__ import annotations


class Breaker:
    """Opens after failures in a row; while open lets one call through after each growing pause.

    Args:
      failures: how many in a row open it.
      pause: seconds until the first trial; doubles with each failed one.
      longest_pause: seconds at most between trials.
    """

    def __init__(self, failures: int = 5, pause: float = 1.0, longest_pause: float = 30.0) -> None:
        self._limit = failures
        self._first_pause, self._longest = pause, longest_pause
        self._failed = 0
        self._pause = pause
        self._retry_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the replica is being left alone."""
        return self._retry_at is not None

    def allows(self, now: float) -> bool:
        """Returns whether a call may go out at `now` (seconds); pure: `begin` claims a trial."""
        return self._retry_at is None or now >= self._retry_at

    def begin(self, now: float) -> None:
        """Notes that a call goes out; an open breaker lets no other out before its pause is over again."""
        if self._retry_at is not None:
            self._retry_at = now + self._pause

    def record(self, ok: bool, now: float) -> None:
        """Notes how a call ended: a success closes, a failure counts, or prolongs the pause."""
        if ok:
            self._failed, self._pause, self._retry_at = 0, self._first_pause, None
            return
        self._failed += 1
        if self._retry_at is not None:
            self._pause = min(2 * self._pause, self._longest)
            self._retry_at = now + self._pause
        elif self._failed >= self._limit:
            self._retry_at = now + self._pause
