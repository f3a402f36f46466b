"""Counters and histograms under TF Serving's names and labels, and their page for Prometheus.

Source: TF Serving's `util.cc` (names and buckets) and its Prometheus exporter (how names are spelt).
"""

from __future__ import annotations

import re
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric

from serving.status import Code, StatusError

LATENCY_BUCKETS = tuple(10 * 1.8**power for power in range(33))
"""Upper bounds in microseconds, as TF Serving's."""

CALLS_NOT_RUN = "ranker_server_calls_not_run_total"
"""Calls that were cancelled, or past their deadline, before they could run; by `reason`."""

Labels = tuple[tuple[str, str], ...]


@dataclass
class HistogramCells:
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

    def __init__(self, version_labels: bool = False) -> None:
        """Starts at zero.

        Args:
            version_labels: give request counts and latencies the labels `version` and `signature`, which TF
                Serving does not have.
        """
        self._version_labels = version_labels
        self._lock = threading.Lock()
        self._counters: dict[str, dict[Labels, int]] = {}
        self._histograms: dict[str, dict[Labels, HistogramCells]] = {}
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
                cells[labels] = HistogramCells(bounds)
            cells[labels].add(value)

    def counter(self, name: str) -> int:
        """Sum of a counter over its labels; 0 if it never counted."""
        with self._lock:
            return sum(self._counters.get(name, {}).values())

    def collect(self) -> Iterator[Metric]:
        """All metrics at this moment, as prometheus_client has them."""
        with self._lock:
            counters = {name: dict(cells) for name, cells in self._counters.items()}
            histograms = {
                name: [(labels, h.bounds, list(h.counts), h.total) for labels, h in cells.items()]
                for name, cells in self._histograms.items()
            }
        for name in sorted(counters):
            metric = Metric(_prometheus_name(name).removesuffix("_total"), name, "counter")
            for labels, value in counters[name].items():
                metric.add_sample(_prometheus_name(name), dict(labels), value)
            yield metric
        for name in sorted(histograms):
            label_names = [label for label, _ in histograms[name][0][0]]
            family = HistogramMetricFamily(_prometheus_name(name), name, labels=label_names)
            for labels, bounds, counts, total in histograms[name]:
                limits = [*(f"{bound:g}" for bound in bounds), "+Inf"]
                buckets = list(zip(limits, accumulate(counts), strict=True))
                family.add_metric([value for _, value in labels], buckets, total)
            yield family

    def request(self, model: str, api: str, entrypoint: str) -> RequestRecord:
        """Times a request and counts it under its status; use it in a `with` block."""
        return RequestRecord(self, model, api, entrypoint)

    def finish(self, record: RequestRecord, status: Code, micros: float) -> None:
        """Counts one request; called by the record."""
        key = (record.model, record.api, record.entrypoint, record.version, record.signature, status)
        cells = self._request_labels.get(key)
        if cells is None:
            cells = self._request_labels.setdefault(key, self._labels(record, status))
        count_labels, latency_labels = cells
        self.count("/tensorflow/serving/request_count", count_labels)
        if status == Code.OK:
            self.observe("/tensorflow/serving/request_latency", micros, latency_labels)

    def _labels(self, record: RequestRecord, status: Code) -> tuple[Labels, Labels]:
        version: Labels = ()
        if self._version_labels:
            version = (("version", str(record.version or "")), ("signature", record.signature))
        count = (("model_name", record.model), ("status", status.name), *version)
        latency = (("model_name", record.model), ("API", record.api), ("entrypoint", record.entrypoint))
        return count, (*latency, *version)


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
        status = Code.OK if error is None else error.code if isinstance(error, StatusError) else Code.UNKNOWN
        self._metrics.finish(self, status, micros)


def page(metrics: Metrics) -> tuple[bytes, str]:
    """All metrics in Prometheus' text format, and its media type."""
    registry = CollectorRegistry()
    registry.register(metrics)
    text = generate_latest(registry)
    # prometheus_client appends "_total" to every counter's name in the lines about it; TF Serving's have none.
    return re.sub(rb"^(# (?:HELP|TYPE) :\S+)_total ", rb"\1 ", text, flags=re.MULTILINE), "text/plain"


def _prometheus_name(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", ":", name)
