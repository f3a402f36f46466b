"""Counters and histograms in TF Serving's names, plus version and signature labels.

Source: TF Serving's `util.cc` (names and buckets) and its Prometheus exporter (how names are spelt).
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from serving.server.status import Code, ServingError

LATENCY_BUCKETS = tuple(10 * 1.8**power for power in range(33))
"""Upper bounds in microseconds, as TF Serving's."""

Labels = tuple[tuple[str, str], ...]


@dataclass
class Histogram:
    """Counts by bucket, with sum."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass
class RequestRecord:
    """What a request turns out to be about, filled in while it runs."""

    version: int | None = None
    signature: str = ""


class Metrics:
    """All metrics of one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, dict[Labels, int]] = {}
        self._histograms: dict[str, dict[Labels, Histogram]] = {}

    def count(self, name: str, labels: Labels = (), amount: int = 1) -> None:
        """Adds to a counter."""
        with self._lock:
            cells = self._counters.setdefault(name, {})
            cells[labels] = cells.get(labels, 0) + amount

    def observe(
        self, name: str, value: float, labels: Labels = (), bounds: tuple[float, ...] = LATENCY_BUCKETS
    ) -> None:
        """Adds a value to a histogram."""
        with self._lock:
            cells = self._histograms.setdefault(name, {})
            if labels not in cells:
                cells[labels] = Histogram(bounds)
            cells[labels].add(value)

    def counter(self, name: str) -> int:
        """Sum of a counter over its labels; 0 if it never counted."""
        with self._lock:
            return sum(self._counters.get(name, {}).values())

    @contextmanager
    def request(self, model: str, api: str, entrypoint: str) -> Iterator[RequestRecord]:
        """Times a request and counts it under its status."""
        record = RequestRecord()
        started = time.perf_counter()
        status = Code.OK
        try:
            yield record
        except ServingError as error:
            status = error.code
            raise
        finally:
            elapsed = (time.perf_counter() - started) * 1e6
            self._finish(model, api, entrypoint, record, status, elapsed)

    def _finish(
        self, model: str, api: str, entrypoint: str, record: RequestRecord, status: Code, elapsed: float
    ) -> None:
        if record.version is None:
            # A name that no model has must not become a label: clients could grow the page without end.
            model = "unknown" if status != Code.OK else model
        about = (("version", str(record.version or "")), ("signature", record.signature))
        self.count(
            "/tensorflow/serving/request_count", (("model_name", model), ("status", status.name), *about)
        )
        if status == Code.OK:
            labels = (("model_name", model), ("API", api), ("entrypoint", entrypoint), *about)
            self.observe("/tensorflow/serving/request_latency", elapsed, labels)
