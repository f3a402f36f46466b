"""The monitor's loop: collect, measure, store; every interval, until it is told to stop."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from ranker.address import parse_address
from ranker.config.deployment import Monitor as Settings
from ranker.divergence import AnswerCoverage
from ranker.divergence import Settings as MeasureSettings
from ranker.errors import UserError
from ranker.files import sweep
from serving.client import Tls
from serving.deployment import Deployment, Replica
from serving.monitor.alerts.evaluation import evaluate_and_send
from serving.monitor.alerts.messages import Origin
from serving.monitor.alerts.rules import Rules
from serving.monitor.collection.answers import Collected
from serving.monitor.collection.collect import Expected, collect
from serving.monitor.collection.send import RoundLimits
from serving.monitor.collection.served import load_served, save_served
from serving.monitor.judgement.status import read_status
from serving.monitor.judgement.verdict import Verdict
from serving.monitor.measurement.exemplars import Exemplars, Names
from serving.monitor.measurement.measure import MeasuredRound, Served, measure
from serving.monitor.measurement.record import LIVE, PROBE, RoundRecord, Subject, mirrored_counts
from serving.monitor.measurement.slices import cuts, slices
from serving.monitor.prometheus import serve_metrics
from serving.monitor.requests.live import LiveRequests, live_requests, live_slices
from serving.monitor.requests.mirror import MirrorListener
from serving.monitor.requests.probe import ProbeSet
from serving.monitor.requests.reservoir import CallSample, Reservoir
from serving.monitor.store import Store, open_store
from serving.monitor.store.pending import PendingRounds
from serving.monitor.store.rollup import roll_up
from serving.monitor.store.selection import Selection
from serving.targets.scoring import ModelCall, ScoringClient, connect

log = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds of silence after which a replica is given up for the round: a server that restarts is back in less."""
_STORE_RETRY = 5.0
"""Seconds between attempts to store what waits, while no round is under way."""
_STORE_PATIENCE = 30.0
"""Seconds that a single round (`once`) waits for the store."""


@dataclass(frozen=True)
class Summary:
    """What one round says.

    Attributes:
        replicas: replica -> served version, of those that answered.
        requests: requests asked.
        measures: label -> value, low, high: the mean over pairs with its 95% interval, and min and max over the pairs.
        errors: replica -> kind -> requests.
        refused: replica -> why it may not be compared.
        coverage: replica -> what it was asked, answered and left out.
        live_coverage: the same of the sampled live calls; empty: there were none.
        messages: replica -> kind -> what the first error of this kind said, where it answers but not with scores.
        verdict: the first sentence: state, sentence, replicas it names, since when (seconds since 1970), what changed; None:
            the store does not answer.
        mirrored: outcome -> mirrored calls since the last round; empty if none are taken.
    """

    replicas: dict[str, int]
    requests: int
    measures: dict[str, dict[str, float]]
    errors: dict[str, dict[str, int]]
    refused: dict[str, str]
    coverage: dict[str, AnswerCoverage]
    messages: dict[str, dict[str, str]]
    verdict: Verdict | None
    mirrored: dict[str, int] = field(default_factory=dict)
    live_coverage: dict[str, AnswerCoverage] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


class DeploymentMonitor:
    """One deployment under watch: what a round needs, and what one round hands to the next.

    Args:
        deployment: the replicas.
        settings: `monitor` of the configuration.
        probe: the frozen requests.
        store: where rounds go.
        rules: alert rules; None: no alerts.
        exemplars: where example requests go; None: none are kept.
        reservoir: samples live calls; None: no live stream.
        tls: how to connect to the replicas; None: no TLS.
        origin: links of alerts; None: the deployment's name alone.

    Raises:
        UserError: a slice names no feature of the probe.
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
        reservoir: Reservoir | None = None,
        tls: Tls | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.tls = tls
        self.origin = origin or Origin(deployment.model_name)
        self.deployment, self.settings, self.probe, self.store = deployment, settings, probe, store
        self.rules, self.exemplars, self.reservoir = rules, exemplars, reservoir
        self.pending = PendingRounds(store)
        self.cuts = cuts(probe, settings.slices)
        self.slices = slices(probe, settings.slices)
        self.measures = MeasureSettings(k=settings.k, order_only=deployment.scale == "order")
        # it only wins a tie: a change of the schema is compared once most replicas have it
        self.preferred = Expected(deployment.feature_spec)
        # three quarters of the interval for asking leaves the rest for measuring and storing
        streams = 1 if reservoir is None else 2
        asking = max(settings.interval * 0.75 / streams, settings.deadline)
        self.limits = RoundLimits(settings.deadline, asking, patience=min(_PATIENCE, asking / 3))
        # a fleet's scores are too many to be written whenever a replica changes
        is_fleet = len(deployment.replicas) > settings.all_pairs_up_to
        self._served_path = (
            exemplars.directory / "served.npz" if exemplars is not None and not is_fleet else None
        )
        self.served: dict[str, Served] = (
            load_served(self._served_path, probe) if self._served_path is not None else {}
        )
        self._call = ModelCall(
            model_name=deployment.model_name,
            item=deployment.item,
            signature=deployment.signature,
            output=deployment.output,
            scale=deployment.scale,
            json_request=deployment.json_request,
            json_scores=deployment.json_scores,
        )
        self._gaps_hour = -1
        self._exemplars_of: tuple[int, str] | None = None
        if exemplars is not None:
            with _logged("files of an interrupted monitor cannot be removed", OSError):
                sweep(exemplars.directory)

    def round(self, *, once: bool = False) -> Summary:
        """Asks, measures and stores: the probe, then the sample of live calls.

        Args:
            once: no other round follows after the interval.
        """
        interval = None if once else self.settings.interval
        collected = self.ask(self.probe)
        # the probe is frozen: once an hour says as much as every minute
        hour = int(collected.started) // 3600
        gaps, self._gaps_hour = hour != self._gaps_hour, hour
        measured = measure(
            collected,
            self.measures,
            self.slices,
            self.served,
            gaps=gaps,
            interval=interval,
            all_pairs_up_to=self.settings.all_pairs_up_to,
        )
        self.pending.add(measured.record)
        self._save_served(measured.served)
        for answer in collected.answers:
            if answer.refused:
                log.warning("%s is not compared: %s", answer.replica, answer.refused)
        self._keep_probe_exemplars(measured)
        mirrored, live = self._live_round(self.reservoir.take()) if self.reservoir is not None else ({}, None)
        if self.pending.flush():
            self._roll_up_and_alert(collected.started)
        verdict = None
        with _logged("there is no verdict", SQLAlchemyError):
            verdict = read_status(
                self.store, self.settings.budget, Selection(time.time()), k=self.settings.k
            ).verdict
        return summarise(collected, measured, verdict, mirrored, live)

    def ask(self, requests: ProbeSet) -> Collected:
        """Asks every replica the requests."""
        return collect(
            self.deployment.replicas, requests, self._connect, Expected(), self.limits, self.preferred
        )

    def _live_round(self, sample: CallSample) -> tuple[dict[str, int], Collected | None]:
        """Asks every replica the sampled calls and measures them as the probe; returns the calls by outcome, and answers."""
        live = live_requests(sample.calls, self.deployment.model_name, self.deployment.item, self.probe)
        _log_unreadable(live, len(sample.calls))
        outcomes = {
            "seen": sample.seen,
            "sampled": len(sample.calls),
            "dropped": sample.dropped,
            "unreadable": live.unreadable.total(),
        }
        collected = None
        if live.requests is not None:
            collected = self.ask(live.requests)
            parts = live_slices(live.requests, self.cuts)
            measured = measure(
                collected,
                self.measures,
                parts,
                {},
                stream=LIVE,
                mirrored=outcomes,
                interval=self.settings.interval,
                all_pairs_up_to=self.settings.all_pairs_up_to,
                members={name: state.subject for name, state in self.served.items()},
            )
            self.pending.add(measured.record)
            self._keep_exemplars(LIVE, live.requests, measured)
        elif sample.seen:
            now, counts = time.time(), mirrored_counts(outcomes)
            record = RoundRecord(
                key=f"{LIVE}//{now:.3f}",
                stream=LIVE,
                time=int(now),
                duration=0.0,
                requests=0,
                probe="",
                subjects={},
                statistics={},
                counts=counts,
                interval=self.settings.interval,
            )
            self.pending.add(record)
        return outcomes, collected

    def _roll_up_and_alert(self, now: float) -> None:
        with _logged("roll-ups wait for the next round", SQLAlchemyError):
            roll_up(self.store, now)
        if self.rules is None:
            return
        with _logged("alerts wait for the next round", SQLAlchemyError):
            for alert in evaluate_and_send(
                self.store, self.rules, self.settings.budget, time.time(), self.origin
            ):
                log.warning("%s %s: %s", alert.state, alert.rule, alert.summary)

    def _save_served(self, served: dict[str, Served]) -> None:
        def state(replicas: dict[str, Served]) -> set[tuple[Subject, int]]:
            return {(replica.subject, int(replica.answered.sum())) for replica in replicas.values()}

        changed = state(served) != state(self.served)
        self.served = served
        if changed and self._served_path is not None:
            with _logged("what served last cannot be kept", OSError):
                save_served(self._served_path, self.probe, served)

    def _keep_probe_exemplars(self, measured: MeasuredRound) -> None:
        """Once an hour and set of versions: the probe's requests do not change in between."""
        everyone = next((key.a.fingerprint for key in measured.record.statistics if key.kind == "all"), None)
        state = (measured.record.time // 3600, everyone or "")
        if everyone is not None and state != self._exemplars_of:
            self._exemplars_of = state
            self._keep_exemplars(PROBE, self.probe, measured)

    def _keep_exemplars(self, stream: str, requests: ProbeSet, measured: MeasuredRound) -> None:
        if (
            self.exemplars is None
            or not self.exemplars.can_write
            or measured.requests is None
            or not len(measured.requests.pairs)
        ):
            return
        versions = {subject.replica: subject.version for subject in measured.record.subjects}
        context = self.deployment.context
        # the probe's candidates are in the run directory
        candidates = requests.candidates(context) if stream == LIVE else {}
        names = Names(
            requests=requests.requests,
            items=requests.items,
            contexts=requests.contexts(context),
            versions=versions,
            levels=measured.levels,
            candidates=candidates,
        )
        with _logged("example requests cannot be kept", OSError):
            self.exemplars.add(stream, measured.record.time, measured.requests, names)

    def _connect(self, replica: Replica) -> ScoringClient:
        return connect(replica.target, self._call, deadline=self.settings.deadline, tls=self.tls)


@contextmanager
def _logged(consequence: str, kind: type[Exception]) -> Iterator[None]:
    """A failure of the disk or the store costs what it says, not the measurements."""
    try:
        yield
    except kind as error:
        log.warning("%s: %s", consequence, " ".join(str(error).split())[:300])


def _log_unreadable(live: LiveRequests, sampled: int) -> None:
    """One line a round, whatever arrives."""
    if live.unreadable:
        reasons = "; ".join(f"{count} times: {reason}" for reason, count in live.unreadable.most_common(3))
        log.warning("%d of %d sampled calls cannot be asked (%s)", live.unreadable.total(), sampled, reasons)


def summarise(
    collected: Collected,
    measured: MeasuredRound,
    verdict: Verdict | None,
    mirrored: dict[str, int],
    live: Collected | None,
) -> Summary:
    """A round in a few numbers."""
    return Summary(
        replicas={
            answer.replica: answer.version
            for answer in collected.answers
            if answer.version and not answer.refused
        },
        requests=len(collected.probe),
        measures=dict(measured.summary),
        errors={answer.replica: dict(answer.errors) for answer in collected.answers if answer.errors},
        refused={answer.replica: answer.refused for answer in collected.answers if answer.refused},
        coverage=collected.coverage,
        messages={answer.replica: dict(answer.messages) for answer in collected.answers if answer.messages},
        verdict=verdict,
        mirrored=mirrored,
        live_coverage=live.coverage if live is not None else {},
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
    mirror_listen: str | None = None,
    metrics: str | None = None,
    tls: Tls | None = None,
    origin: Origin | None = None,
    stop: threading.Event | None = None,
    on_round: Callable[[Summary], None] | None = None,
    on_mirror: Callable[[int], None] | None = None,
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
        mirror_listen: `HOST:PORT` to take mirrored calls on; None: no live stream.
        metrics: `HOST:PORT` to answer Prometheus on; None: nowhere.
        tls: how to connect to the replicas; None: no TLS.
        origin: links of alerts; None: the deployment's name alone.
        stop: set it to end the loop after the round under way.
        on_round: called after each round.
        on_mirror: called with the port where mirrored calls are taken.

    Returns:
        The last round's summary; None if it was stopped before the first.

    Raises:
        UserError: the store cannot be opened, a slice names no feature, a port is in use; with `once`, the store did not
            take the round.
    """
    stop = stop or threading.Event()
    with ExitStack() as cleanup:
        store = open_store(store_url)
        cleanup.callback(store.close)
        reservoir = Reservoir(settings.requests) if mirror_listen is not None else None
        monitor = DeploymentMonitor(
            deployment,
            settings,
            probe,
            store,
            rules=rules,
            exemplars=exemplars,
            reservoir=reservoir,
            tls=tls,
            origin=origin,
        )
        if metrics is not None:
            address = parse_address(metrics, "the metrics address", lowest_port=0)
            exporter, _ = serve_metrics(
                store, settings.budget, *address, k=settings.k, pending=monitor.pending
            )
            cleanup.callback(exporter.server_close)
            cleanup.callback(exporter.shutdown)
        if reservoir is not None and mirror_listen is not None:
            listener = MirrorListener(
                parse_address(mirror_listen, "the mirror address", lowest_port=0), reservoir
            )
            cleanup.callback(listener.close)
            if on_mirror is not None:
                on_mirror(listener.port)
        summary = None
        while not stop.is_set():
            started = time.monotonic()
            summary = monitor.round(once=once)
            if on_round is not None:
                on_round(summary)
            if once:
                _store_last(monitor.pending, stop)
                break
            # rounds start at a steady beat; one that took longer than the interval starts the next at once
            _wait(started + settings.interval, monitor.pending, stop)
        if len(monitor.pending):
            log.warning("%d rounds are lost: the store did not take them", len(monitor.pending))
        return summary


def _wait(until: float, pending: PendingRounds, stop: threading.Event) -> None:
    """Waits for the next round, and tries again to store what the store did not take."""
    while not stop.is_set() and (remaining := until - time.monotonic()) > 0:
        stop.wait(min(remaining, _STORE_RETRY) if len(pending) else remaining)
        if len(pending) and not stop.is_set():
            pending.flush()


def _store_last(pending: PendingRounds, stop: threading.Event) -> None:
    until = time.monotonic() + _STORE_PATIENCE
    while len(pending) and not stop.is_set() and time.monotonic() < until:
        stop.wait(1.0)
        pending.flush()
    if len(pending):
        raise UserError(f"the round is not stored: {pending.error}")


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
