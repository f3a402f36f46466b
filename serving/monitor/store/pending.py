"""Queues rounds while the store is locked, full or not reachable, and writes them later."""

from __future__ import annotations

import logging
from collections import Counter, deque
from dataclasses import replace

from sqlalchemy.exc import SQLAlchemyError

from ranker.errors import UserError
from serving.monitor.measurement.record import ALL_REPLICAS, DROPPED, RoundRecord
from serving.monitor.store.database import Store
from serving.monitor.store.write import write_round

log = logging.getLogger(__name__)

MOST_WAITING = 20
"""The largest number of waiting rounds: ten intervals of probe and live traffic."""


class PendingRounds:
    """A bounded queue in front of the store.

    When it is full the oldest round is dropped: the newest says how it is now. The next round of its stream that is
    stored carries how many were dropped, and their mirrored calls, which are counted and not measured.

    Args:
        store: takes the rounds.
        most: rounds that wait.

    Attributes:
        error: why the store did not take the last round; empty: it did.
    """

    def __init__(self, store: Store, most: int = MOST_WAITING) -> None:
        self._store, self._most = store, most
        self._waiting: deque[RoundRecord] = deque()
        self._unreported: dict[str, Counter[tuple[str, str]]] = {}
        self.error = ""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, record: RoundRecord) -> None:
        """Puts a round at the end of the queue."""
        self._waiting.append(record)
        while len(self._waiting) > self._most:
            self._drop(self._waiting.popleft(), self.error or "too many rounds wait")

    def flush(self) -> bool:
        """Stores what waits, the oldest first; False (and a line in the log) if the store does not take it."""
        while self._waiting:
            record = self._waiting[0]
            counts = Counter(record.counts)
            counts.update(self._unreported.get(record.stream, {}))
            try:
                write_round(self._store, replace(record, counts=counts))
            except UserError as error:  # it is too late for this one
                self._drop(self._waiting.popleft(), str(error))
                continue
            except SQLAlchemyError as error:
                self.error = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
                log.warning("the store takes no rounds (%d waiting): %s", len(self), self.error)
                return False
            self._waiting.popleft()
            self._unreported.pop(record.stream, None)
            if self.error:
                log.warning("the store takes rounds again")
                self.error = ""
        return True

    def _drop(self, record: RoundRecord, reason: str) -> None:
        log.warning("a round is dropped: %s", reason)
        counts = self._unreported.setdefault(record.stream, Counter())
        counts[ALL_REPLICAS, DROPPED] += 1
        for (replica, kind), count in record.counts.items():
            if replica == ALL_REPLICAS:
                counts[replica, kind] += count
