"""The gateway's Prometheus metrics, in a registry of its own."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from serving.gateway.upstream import Upstream

_BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counts calls as they end; the mirror's numbers are read when Prometheus asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._of_call: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._calls = Counter(
            "ranker_gateway_requests",
            "Calls answered, by method, replica that answered and gRPC status.",
            ("method", "replica", "code"),
            registry=self.registry,
        )
        self._latency = Histogram(
            "ranker_gateway_latency_seconds",
            "From a call's arrival to its answer.",
            ("method",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._unavailable = Counter(
            "ranker_gateway_unavailable",
            "Calls that a replica did not take and that were sent to the next one.",
            ("replica",),
            registry=self.registry,
        )

        self._passed_over = Counter(
            "ranker_gateway_passed_over",
            "Calls that another replica answered because this one was late, or erred where the other did not.",
            ("replica", "reason"),
            registry=self.registry,
        )

    def call(self, method: str, replica: str, code: str, seconds: float) -> None:
        """Notes an answered call."""
        # Looking labels up costs more than counting, and there are few of them.
        children = self._of_call.get((method, replica, code))
        if children is None:
            children = self._calls.labels(method, replica, code), self._latency.labels(method)
            self._of_call[method, replica, code] = children
        counter, latency = children
        counter.inc()
        latency.observe(seconds)

    def retry(self, replica: str) -> None:
        """Notes a replica that was not there."""
        self._unavailable.labels(replica).inc()

    def passed_over(self, replica: str, reason: str) -> None:
        """Notes a replica that another made up for; `reason` is "late" or "error"."""
        self._passed_over.labels(replica, reason).inc()

    def watch(
        self,
        upstreams: Mapping[str, Upstream],
        counts: Callable[[], Counts[tuple[str, str, str]]],
        gauges: Callable[[], Mapping[str, float]],
    ) -> None:
        """Adds the replicas' health and the mirror's counts."""
        self.registry.register(_Watched(upstreams, counts, gauges))


class _Watched(Collector):
    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        counts: Callable[[], Counts[tuple[str, str, str]]],
        gauges: Callable[[], Mapping[str, float]],
    ) -> None:
        self._upstreams, self._counts, self._gauges = upstreams, counts, gauges

    def collect(self) -> Iterable[Metric]:
        """Yields the families of this moment."""
        healthy = GaugeMetricFamily(
            "ranker_gateway_replica_healthy", "1: callers are sent here.", labels=("replica",)
        )
        for name, upstream in self._upstreams.items():
            healthy.add_metric((name,), float(upstream.is_healthy))
        yield healthy
        counts = self._counts()
        for event, text in (
            ("compared", "Mirrored requests that became a comparison."),
            ("skipped", "Sampled requests that rank nothing."),
            ("sink_failed", "Comparisons that could not be written."),
            ("discarded", "Spool files deleted unread because the spool was full."),
            ("restarted", "Restarts of the mirror process."),
        ):
            family = CounterMetricFamily(f"ranker_gateway_mirror_{event}", text)
            family.add_metric((), sum(number for (name, _, _), number in counts.items() if name == event))
            yield family
        dropped = CounterMetricFamily(
            "ranker_gateway_mirror_dropped", "Sampled requests not compared, by reason.", labels=("reason",)
        )
        for reason in ("queue", "pipe", "shutdown"):
            dropped.add_metric((reason,), counts["dropped", "", reason])
        yield dropped
        answers = CounterMetricFamily(
            "ranker_gateway_mirror_answers", "Mirrored calls by how they ended.", labels=("replica", "code")
        )
        for (event, replica, code), number in counts.items():
            if event == "answer":
                answers.add_metric((replica, code), number)
        yield answers
        for name, value in self._gauges().items():
            yield GaugeMetricFamily(f"ranker_gateway_mirror_{name}", f"The mirror's {name}.", value=value)
