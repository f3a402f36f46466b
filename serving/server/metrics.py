"""Counters and histograms in TF Serving's names, plus version and signature labels.

Source: TF Serving's `util.cc` (names and buckets) and its Prometheus exporter (how names are spelt).
"""

from __future__ import annotations

import re
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

    def snapshot(
        self,
    ) -> tuple[
        dict[str, list[tuple[Labels, int]]],
        dict[str, list[tuple[Labels, tuple[tuple[float, ...], list[int], float]]]],
    ]:
        """Counters and histograms (bounds, counts, sum) at one moment."""
        with self._lock:
            counters = {name: list(cells.items()) for name, cells in self._counters.items()}
            histograms = {
                name: [(labels, (h.bounds, list(h.counts), h.total)) for labels, h in cells.items()]
                for name, cells in self._histograms.items()
            }
        return counters, histograms

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


def page(metrics: Metrics) -> bytes:
    """All metrics in Prometheus' text format, under TF Serving's spelling (`:tensorflow:serving:...`)."""
    lines = []
    counters, histograms = metrics.snapshot()
    for name in sorted(counters):
        lines.append(f"# TYPE {_spell(name)} counter")
        lines += [f"{_spell(name)}{{{_labels(labels)}}} {value}" for labels, value in counters[name]]
    for name in sorted(histograms):
        lines.append(f"# TYPE {_spell(name)} histogram")
        for labels, (bounds, counts, total) in histograms[name]:
            prefix = f"{_labels(labels)}," if labels else ""
            seen = 0
            for bound, count in zip((*bounds, None), counts, strict=True):
                seen += count
                limit = "+Inf" if bound is None else f"{bound:g}"
                lines.append(f'{_spell(name)}_bucket{{{prefix}le="{limit}"}} {seen}')
            lines.append(f"{_spell(name)}_sum{{{_labels(labels)}}} {total:g}")
            lines.append(f"{_spell(name)}_count{{{_labels(labels)}}} {seen}")
    return ("\n".join(lines) + "\n").encode()


def _spell(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", ":", name)


def _labels(labels: Labels) -> str:
    def escape(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return ",".join(f'{name}="{escape(value)}"' for name, value in labels)
