"""Threads for calls that take long: as many as are needed, kept for a while."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

_IDLE_SECONDS = 10.0


class Workers:
    """Runs jobs, each at once on a thread of its own for as long as it takes."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0

    def submit(self, job: Callable[[], None]) -> None:
        """Runs `job` on another thread. It must not raise."""
        with self._lock:
            spawn = self._free <= 0
            self._free -= 1
        self._jobs.put(job)
        if spawn:
            threading.Thread(target=self._work, name="grpc-worker", daemon=True).start()

    def _work(self) -> None:
        with self._lock:
            self._free += 1
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._free <= 0:
                        continue  # a job was promised to this thread
                    self._free -= 1
                return
            job()
            del job  # and the request it holds, while this thread has nothing to do
            with self._lock:
                self._free += 1
