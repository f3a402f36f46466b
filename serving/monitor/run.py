"""The monitor's loop: collect, measure, store; every interval, until it is told to stop."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from ranker.address import parse_address
from ranker.config.deployment import Monitor as Settings
from ranker.divergence import Settings as MeasureSettings
from serving.client import RankerClient, Tls
from serving.deployment import Deployment
from serving.monitor.alerts.rules import Rules
from serving.monitor.alerts.watch import watch
from serving.monitor.collect import Collected, Expected, Limits, Target, collect
from serving.monitor.exemplars import Exemplars, Names
from serving.monitor.live import ingest
from serving.monitor.measure import Measured, Served, measure
from serving.monitor.prometheus import serve_metrics
from serving.monitor.record import PROBE, Subject
from serving.monitor.requests import ProbeSet
from serving.monitor.served import load_served, save_served
from serving.monitor.slices import cuts, slices
from serving.monitor.status import read_status
from serving.monitor.store import Store, open_store
from serving.monitor.store.rollup import roll_up
from serving.monitor.store.write import write_round
from serving.monitor.verdict import Verdict

log = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds of silence after which a replica is given up for the round: a server that restarts is back in less."""


@dataclass(frozen=True)
class Summary:
    """What one round says.

    Attributes:
        replicas: replica -> served version, of those that answered.
        requests: requests asked.
        measures: label -> value, low, high: the mean over pairs with its 95% interval, and min and max over the pairs.
        errors: replica -> kind -> requests.
        refused: replica -> why it may not be compared.
        verdict: the first sentence: state, sentence, replicas it names, since when (seconds since 1970), what changed.
    """

    replicas: dict[str, int]
    requests: int
    measures: dict[str, dict[str, float]]
    errors: dict[str, dict[str, int]]
    refused: dict[str, str]
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


class Monitor:
    """One deployment under watch: what a round needs, and what one round hands to the next.

    Args:
        deployment: the replicas.
        settings: `monitor` of the configuration.
        probe: the frozen requests.
        store: where rounds go.
        rules: alert rules; None: no alerts.
        exemplars: where example requests go; None: none are kept.
        spool: the gateway's directory of mirrored requests; None: no live stream.
        tls: how to connect to the replicas; None: no TLS.
    """

    def __init__(
        self,
        deployment: Deployment,
        settings: Settings,
        probe: ProbeSet,
        store: Store,
        *,
        rules: Rules | None = None,
        exemplars: Exemplars | None = None,
        spool: Path | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.tls = tls
        self.deployment, self.settings, self.probe, self.store = deployment, settings, probe, store
        self.rules, self.exemplars, self.spool = rules, exemplars, spool
        self.cut = cuts(probe, settings.slices)
        self.slices = slices(probe, settings.slices)
        self.measures = MeasureSettings(k=settings.k)
        # no more than usual: a refresh on new data has another vocabulary, and is compared once most replicas have it
        self.usual = Expected(deployment.feature_spec, deployment.vocabulary)
        # three quarters of the interval for asking leaves the rest for measuring and storing
        asking = max(settings.interval * 0.75, settings.deadline)
        self.limits = Limits(settings.deadline, asking, patience=min(_PATIENCE, asking / 3))
        self._memory = exemplars.directory / "served.npz" if exemplars is not None else None
        self.served: dict[str, Served] = load_served(self._memory, probe) if self._memory is not None else {}
        self._gaps_at = -1
        self._kept: tuple[int, str] | None = None

    def round(self, *, once: bool = False) -> Summary:
        """Asks, measures and stores; `once`: no other round follows after the interval."""
        collected = collect(
            self.deployment.replicas, self.probe, self._connect, Expected(), self.limits, self.usual
        )
        hour = int(collected.started) // 3600
        gaps, self._gaps_at = (
            hour != self._gaps_at,
            hour,
        )  # the probe is frozen: once an hour says as much as every minute
        measured = measure(collected, self.measures, self.slices, self.served, gaps=gaps)
        write_round(self.store, replace(measured.record, interval=None if once else self.settings.interval))
        self._remember(measured.served)
        for answer in collected.answers:
            if answer.refused:
                log.warning("%s is not compared: %s", answer.replica, answer.refused)
        self._keep_exemplars(measured)
        if self.spool is not None:
            ingest(
                self.store,
                self.spool,
                self.measures,
                self.served,
                self.exemplars,
                self.cut,
                context=self.deployment.context,
            )
        roll_up(self.store, collected.started)
        if self.rules is not None:
            for alert in watch(
                self.store, self.rules, self.settings.budget, time.time(), self.deployment.model_name
            ):
                log.warning("%s %s: %s", alert.state, alert.rule, alert.summary)
        verdict = read_status(self.store, self.settings.budget, time.time(), k=self.settings.k).verdict
        return summarise(collected, measured, verdict)

    def _remember(self, served: dict[str, Served]) -> None:
        def told(some: dict[str, Served]) -> set[tuple[Subject, int]]:
            return {(one.subject, int(one.answered.sum())) for one in some.values()}

        changed = told(served) != told(self.served)
        self.served = served
        if changed and self._memory is not None:
            with _measuring_goes_on("what served last"):
                save_served(self._memory, self.probe, served)

    def _keep_exemplars(self, measured: Measured) -> None:
        """Once an hour and set of versions: the probe's requests do not change in between."""
        everyone = next((key.a.fingerprint for key in measured.record.statistics if key.kind == "all"), None)
        hour = (measured.record.time // 3600, everyone or "")
        if self.exemplars is None or measured.requests is None or everyone is None or hour == self._kept:
            return
        levels = {
            (key.a.replica, key.b.replica): key.level
            for key in measured.record.statistics
            if key.kind == "pair"
        }
        versions = {name: one.subject.version for name, one in measured.served.items()}
        probe = self.probe
        names = Names(probe.requests, probe.items, probe.contexts(self.deployment.context), versions, levels)
        self._kept = hour
        with _measuring_goes_on("example requests"):
            self.exemplars.add(PROBE, measured.record.time, measured.requests, names)

    def _connect(self, replica: Target) -> RankerClient:
        return RankerClient(
            replica.target,
            model_name=self.deployment.model_name,
            deadline=self.settings.deadline,
            retries=1,
            item=self.deployment.item,
            tls=self.tls,
        )


@contextmanager
def _measuring_goes_on(what: str) -> Iterator[None]:
    """A full disk or a directory that may not be written costs examples, not measurements."""
    try:
        yield
    except OSError as error:
        log.warning("%s cannot be kept: %s", what, error)


def summarise(collected: Collected, measured: Measured, verdict: Verdict) -> Summary:
    """A round in a few numbers."""
    comparison = measured.requests.summarise() if measured.requests is not None else None
    return Summary(
        replicas={
            answer.replica: answer.version
            for answer in collected.answers
            if answer.version and not answer.refused
        },
        requests=len(collected.probe),
        measures=comparison.summary() if comparison is not None and comparison.pairs else {},
        errors={answer.replica: dict(answer.errors) for answer in collected.answers if answer.errors},
        refused={answer.replica: answer.refused for answer in collected.answers if answer.refused},
        verdict=verdict,
    )


def run(
    deployment: Deployment,
    settings: Settings,
    probe: ProbeSet,
    store_url: str | Path,
    *,
    once: bool = False,
    rules: Rules | None = None,
    exemplars: Exemplars | None = None,
    spool: Path | None = None,
    metrics: str | None = None,
    tls: Tls | None = None,
    stop: threading.Event | None = None,
    on_round: Callable[[Summary], None] | None = None,
) -> Summary | None:
    """Watches a deployment until `stop` is set, or for one round.

    Args:
        deployment: the replicas.
        settings: `monitor` of the configuration.
        probe: the frozen requests.
        store_url: a SQLite file or a database URL.
        once: one round, then return.
        rules: alert rules; None: no alerts.
        exemplars: where example requests go; None: none are kept.
        spool: the gateway's directory of mirrored requests; None: no live stream.
        metrics: `HOST:PORT` to answer Prometheus on; None: nowhere.
        tls: how to connect to the replicas; None: no TLS.
        stop: set it to end the loop after the round under way.
        on_round: called after each round.

    Returns:
        The last round's summary; None if it was stopped before the first.

    Raises:
        UserError: the store cannot be opened, a slice names no feature, the metrics port is in use.
    """
    stop = stop or threading.Event()
    store = open_store(store_url)
    exporter = None
    try:
        monitor = Monitor(
            deployment, settings, probe, store, rules=rules, exemplars=exemplars, spool=spool, tls=tls
        )
        if metrics is not None:
            address = parse_address(metrics, "the metrics address", lowest_port=0)
            exporter, _ = serve_metrics(store, settings.budget, *address, k=settings.k)
        summary = None
        while not stop.is_set():
            started = time.monotonic()
            summary = monitor.round(once=once)
            if on_round is not None:
                on_round(summary)
            if once:
                break
            # rounds start at a steady beat; one that took longer than the interval starts the next at once
            stop.wait(max(settings.interval - (time.monotonic() - started), 0.0))
        return summary
    finally:
        if exporter is not None:
            exporter.shutdown()
            exporter.server_close()
        store.close()


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set, so that the round under way ends well; a second Ctrl-C interrupts."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
