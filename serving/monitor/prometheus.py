"""The monitor's metrics for Prometheus, read from the store: every process shows the same, and a restart loses none.

Measures are pairs of counters, a sum and its weight, so that `rate(sum) / rate(weight)` is the measure over any
window. Labels are names of replicas, measures and kinds: as many as the deployment has, whatever is served.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http.server import HTTPServer
from threading import Thread

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from ranker.errors import UserError
from serving.monitor.judgement.status import label_in_store, read_status
from serving.monitor.judgement.verdict import STATES, answered_shares
from serving.monitor.measurement.record import ALL_REPLICAS, DROPPED, LIVE, MIRRORED, PROBE
from serving.monitor.store import Store, query
from serving.monitor.store.pending import PendingRounds
from serving.monitor.store.selection import Selection

_PLACES = {
    "pair": ("divergence", ["stream", "measure", "a", "b"]),
    "all": ("divergence_overall", ["stream", "measure"]),
}
_FLOORS = ("again", "batch")


class StoreCollector(Collector):
    """Reads the store at each scrape.

    Args:
        store: the monitor's.
        budget: measure -> what the configuration allows.
        now: the clock, seconds since 1970.
        k: depth of the top of a list, for budgets that name a measure without one.
        pending: rounds on their way to the store, in the monitor's own process.
    """

    def __init__(
        self,
        store: Store,
        budget: Mapping[str, float],
        now: Callable[[], float] = time.time,
        *,
        k: int = 10,
        pending: PendingRounds | None = None,
    ) -> None:
        self.store, self.budget, self.now, self.k, self.pending = store, budget, now, k, pending

    def describe(self) -> list[Metric]:
        """Nothing: registering must not read the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric; of a store that does not answer only that."""
        try:
            metrics = list(self._stored())
        except SQLAlchemyError:
            metrics = []
        yield GaugeMetricFamily(
            "ranker_monitor_store_up", "Whether the store answers.", value=float(bool(metrics))
        )
        if self.pending is not None:
            yield GaugeMetricFamily(
                "ranker_monitor_rounds_waiting",
                "Rounds that the store has not taken.",
                value=len(self.pending),
            )
        yield from metrics

    def _stored(self) -> Iterator[Metric]:
        counts, statistics = query.totals(self.store)
        requests = CounterMetricFamily(
            "ranker_monitor_requests",
            "Requests by replica: asked, answered, and without a usable answer by kind.",
            labels=["stream", "replica", "kind"],
        )
        rounds = CounterMetricFamily("ranker_monitor_rounds", "Rounds stored.", labels=["stream"])
        dropped = CounterMetricFamily(
            "ranker_monitor_rounds_dropped", "Rounds that the store did not take in time.", labels=["stream"]
        )
        mirrored = CounterMetricFamily(
            "ranker_mirrored_requests",
            "Mirrored calls: seen; sampled for all replicas; dropped (lost, too large); unreadable, of the sampled.",
            labels=["outcome"],
        )
        outcomes, lost = dict.fromkeys(MIRRORED, 0), dict.fromkeys((PROBE, LIVE), 0)
        for row in counts:
            stream, kind = row.kind.split("/", 1)
            if row.replica != ALL_REPLICAS:
                requests.add_metric([stream, row.replica, kind], row.count)
            elif kind == "rounds":
                rounds.add_metric([stream], row.count)
            elif kind == DROPPED:
                lost[stream] = row.count
            else:
                outcomes[kind.removeprefix("mirrored_")] = row.count
        for outcome, count in outcomes.items():
            mirrored.add_metric([outcome], count)
        for stream, count in lost.items():  # also 0: a counter that appears with its first loss shows no rise
            dropped.add_metric([stream], count)
        yield from (requests, rounds, dropped, mirrored)
        sums = {}
        for kind, (name, labels) in _PLACES.items():
            sums[kind] = (
                CounterMetricFamily(f"ranker_{name}_sum", "Measures, times their weights.", labels=labels),
                CounterMetricFamily(
                    f"ranker_{name}_weight",
                    "Weights: requests, candidates or expected clicks.",
                    labels=labels,
                ),
            )
        floor = ["stream", "measure", "replica", "kind"]
        sums["floor"] = (
            CounterMetricFamily(
                "ranker_floor_sum", "Measures of a replica against itself, times their weights.", labels=floor
            ),
            CounterMetricFamily("ranker_floor_weight", "Weights of ranker_floor_sum.", labels=floor),
        )
        for series in statistics:
            stream, kind, a, b = series.stream, series.kind, series.a, series.b
            for label, statistic in series.statistics.items():
                if label == "bias" or not statistic.n:  # signed: its sum is not a counter
                    continue
                if kind in _FLOORS:
                    family, label_values = "floor", [stream, label, a, kind]
                elif kind in _PLACES:
                    family, label_values = kind, [stream, label, a, b] if kind == "pair" else [stream, label]
                else:
                    continue
                sums[family][0].add_metric(label_values, statistic.total)
                sums[family][1].add_metric(label_values, statistic.weight)
        for pair in sums.values():
            yield from pair
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        now = self.now()
        newest = GaugeMetricFamily(
            "ranker_monitor_last_round_timestamp_seconds", "Start of the newest round.", labels=["stream"]
        )
        noise = GaugeMetricFamily(
            "ranker_replica_noise",
            "A replica's own noise variance, log-odds squared.",
            labels=["stream", "replica"],
        )
        for stream in (PROBE, LIVE):
            moment = query.freshness(self.store, Selection(now, stream=stream)).time
            if moment is not None:
                newest.add_metric([stream], moment)
            for component in query.odd_one_out(self.store, Selection(now, stream=stream)).components:
                noise.add_metric([stream, component.replica], component.value.value)
        status = read_status(self.store, self.budget, Selection(now), k=self.k)
        verdict = GaugeMetricFamily(
            "ranker_verdict",
            "1 for the state that the verdict on the probe is in, 0 for all others.",
            labels=["state"],
        )
        for state in STATES:
            verdict.add_metric([state], float(state == status.verdict.state))
        named = GaugeMetricFamily(
            "ranker_verdict_replica",
            "1 for each replica that the verdict names as the cause.",
            labels=["replica"],
        )
        for replica_name in status.verdict.replicas:
            named.add_metric([replica_name], 1.0)
        limit_of_age = GaugeMetricFamily(
            "ranker_monitor_stale_after_seconds",
            "Age of the newest probe round beyond which the monitor is taken for silent: three of its intervals.",
        )
        limit_of_age.add_metric([], status.snapshot.freshness.limit)
        coverage = GaugeMetricFamily(
            "ranker_replica_coverage",
            "Share of the newest probe round that a replica answered.",
            labels=["replica"],
        )
        for replica_name, share in answered_shares(status.snapshot.freshness.outcomes).items():
            coverage.add_metric([replica_name], share)
        served = GaugeMetricFamily(
            "ranker_replica_version", "The version a replica served last.", labels=["replica"]
        )
        for replica in query.replicas(self.store, Selection(now)):
            served.add_metric([replica.replica], replica.version)
        firing = GaugeMetricFamily(
            "ranker_alerts",
            "Alerts as the monitor decided them. muted: silenced, or somebody has taken it on.",
            labels=["rule", "severity", "state", "replica", "measure", "muted"],
        )
        standing = Counter(
            (
                alert.rule,
                alert.severity,
                alert.state,
                alert.labels.get("replica", ""),
                alert.labels.get("measure", ""),
                str(alert.muted).lower(),
            )
            for alert in status.alerts
        )
        for key, count in standing.items():
            firing.add_metric(list(key), count)
        budget = GaugeMetricFamily("ranker_budget", "What the configuration allows.", labels=["measure"])
        for measure, limit in self.budget.items():
            budget.add_metric([label_in_store(measure, self.k)], limit)
        yield from (newest, noise, served, firing, budget, verdict, named, limit_of_age, coverage)


def render(store: Store, budget: Mapping[str, float], now: Callable[[], float] = time.time) -> bytes:
    """The metrics page, in Prometheus's text form."""
    registry = CollectorRegistry()
    registry.register(StoreCollector(store, budget, now))
    return generate_latest(registry)


def serve_metrics(
    store: Store,
    budget: Mapping[str, float],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    k: int = 10,
    pending: PendingRounds | None = None,
) -> tuple[HTTPServer, Thread]:
    """Answers `/metrics` on a thread of its own; port 0: any free one (`server.server_port`).

    Raises:
        UserError: the port is in use.
    """
    registry = CollectorRegistry()
    registry.register(StoreCollector(store, budget, k=k, pending=pending))
    try:
        return start_http_server(port, host, registry)
    except OSError as error:
        raise UserError(
            f"the metrics port must be free. Received: {host}:{port} ({error.strerror})"
        ) from None
