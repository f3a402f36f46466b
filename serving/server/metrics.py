"""Counters and histograms in TF Serving's names, plus version and signature labels.

Source: TF Serving's `util.cc` (names and buckets) and its Prometheus exporter (how names are spelt).
"""

from __future__ import annotations

import re
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field

from serving.status import Code, ServingError

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


class Metrics:
    """All metrics of one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, dict[Labels, int]] = {}
        self._histograms: dict[str, dict[Labels, Histogram]] = {}
        self._request_labels: dict[tuple[object, ...], tuple[Labels, Labels]] = {}

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

    def request(self, model: str, api: str, entrypoint: str) -> RequestRecord:
        """Times a request and counts it under its status; use it in a `with` block."""
        return RequestRecord(self, model, api, entrypoint)

    def finish(self, record: RequestRecord, status: Code, micros: float) -> None:
        """Counts one request; called by the record."""
        key = (record.model, record.api, record.entrypoint, record.version, record.signature, status)
        cells = self._request_labels.get(key)
        if cells is None:
            cells = self._request_labels.setdefault(key, _request_labels(record, status))
        count_labels, latency_labels = cells
        self.count("/tensorflow/serving/request_count", count_labels)
        if status == Code.OK:
            self.observe("/tensorflow/serving/request_latency", micros, latency_labels)


class RequestRecord:
    """One request being timed; `version` and `signature` are filled in once they are known."""

    __slots__ = ("_metrics", "_started", "api", "entrypoint", "model", "signature", "version")

    def __init__(self, metrics: Metrics, model: str, api: str, entrypoint: str):
        self._metrics = metrics
        self.model = model
        self.api = api
        self.entrypoint = entrypoint
        self.version: int | None = None
        self.signature = ""

    def __enter__(self) -> RequestRecord:
        self._started = time.perf_counter()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        micros = (time.perf_counter() - self._started) * 1e6
        if self.version is None:
            # A name that no model has must not become a label: clients could grow the page without end.
            self.model = "unknown"
        status = Code.OK if error is None else error.code if isinstance(error, ServingError) else Code.UNKNOWN
        self._metrics.finish(self, status, micros)


def _request_labels(record: RequestRecord, status: Code) -> tuple[Labels, Labels]:
    about = (("version", str(record.version or "")), ("signature", record.signature))
    count = (("model_name", record.model), ("status", status.name), *about)
    return count, (
        ("model_name", record.model),
        ("API", record.api),
        ("entrypoint", record.entrypoint),
        *about,
    )


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
