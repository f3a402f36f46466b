"""Reads the store once and judges it: the status that the command line, the pages, the API and Prometheus show."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ranker import wording
from ranker.divergence import CATALOGUE, definition
from serving.monitor.alerts.keep import stored_silences
from serving.monitor.judgement.verdict import ENOUGH, Facts, OddReplica, Verdict, answered_shares, judge
from serving.monitor.store import Store, query
from serving.monitor.store.results import AlertRow, Freshness, OddOneOut, Snapshot
from serving.monitor.store.selection import Selection

NO_DATA = "no-data"
"""The alert that every reader of the store raises when the monitor is silent: the monitor itself cannot raise it."""
_REFRESHES_SINCE = 86_400


@dataclass(frozen=True)
class Status:
    """A verdict and the values that it is judged from.

    Attributes:
        verdict: the first sentence.
        snapshot: measures, replicas, coverage.
        odd: each replica's own noise, and who stands out.
        alerts: that fire or are pending, with `no-data` where the monitor is silent; the newest first.
    """

    verdict: Verdict
    snapshot: Snapshot
    odd: OddOneOut
    alerts: tuple[AlertRow, ...]

    @property
    def firing(self) -> tuple[AlertRow, ...]:
        """The alerts that fire."""
        return tuple(alert for alert in self.alerts if alert.state == "firing")


def read_status(
    store: Store,
    budget: Mapping[str, float],
    selection: Selection,
    *,
    k: int = 10,
    enough: int = ENOUGH,
) -> Status:
    """Reads the store at one moment.

    Args:
        store: the monitor's.
        budget: measure -> how much excess over the floor is tolerated; the first leads.
        selection: the moment, the stream, and how long a window up to the newest round is added up.
        k: depth of the top of a list, for budgets that name a measure without one.
        enough: requests below which nothing is concluded about a budget.
    """
    snapshot = query.snapshot(store, selection)
    fresh = snapshot.freshness
    odd = query.odd_one_out(store, selection)
    limits = {label_in_store(name, k): limit for name, limit in budget.items()}
    alerts = standing_alerts(store, selection.end)
    pairs = query.pairs(store, selection, tuple(limits))
    replica_means = {} if any(pairs.values()) else query.replica_means(store, selection, tuple(limits))
    lately = Selection.between(selection.end - _REFRESHES_SINCE, selection.end + 1)
    facts = Facts(
        freshness=fresh,
        alerts=[alert for alert in alerts if alert.state == "firing" and alert.id is not None],
        odd=odd_replicas(odd),
        means=snapshot.measures,
        pairs=pairs,
        replica_means=replica_means,
        budget=limits,
        last_answers={replica.replica: replica.last_seen for replica in snapshot.replicas},
        compared_since=query.compared_since(store, selection),
        refreshes=[mark for mark in query.events(store, lately, limit=200) if mark.kind == "refresh"],
        enough=enough,
        order_only=bool(snapshot.measures)
        and not any(definition(label).needs_probabilities for label in snapshot.measures),
    )
    return Status(judge(facts), snapshot, odd, alerts)


def summary_of(status: Status) -> dict[str, Any]:
    """A status for programs: the verdict's parts beside `line`, then measures, replicas, coverage, freshness."""
    verdict, snapshot = status.verdict, status.snapshot
    fresh = snapshot.freshness
    return {
        "state": verdict.state,
        "sentence": verdict.line,
        "named": verdict.replicas,
        "since": verdict.since,
        "changed": verdict.changed,
        "measure": verdict.measure,
        "notes": verdict.notes,
        "replicas_answering": verdict.answering,
        "replicas_asked": verdict.asked,
        "odd": status.odd.odd,
        "firing": [
            {
                "rule": alert.rule,
                "severity": alert.severity,
                "labels": alert.labels,
                "since": alert.started,
                "muted": alert.muted,
                "summary": alert.summary,
            }
            for alert in status.firing
        ],
        "freshness": fresh,
        "stale_after_seconds": fresh.limit,
        "measures": snapshot.measures,
        "replicas": snapshot.replicas,
        "coverage": snapshot.coverage,
        "newest_coverage": answered_shares(fresh.outcomes),
    }


def label_in_store(measure: str, k: int) -> str:
    """A measure's label in the store: `set_churn` is `set_churn@10`."""
    return f"{measure}@{k}" if f"{measure}@k" in CATALOGUE else measure


def odd_replicas(odd_one_out: OddOneOut) -> list[OddReplica]:
    """The replicas that stand out, each with its noise as a multiple of the median of the rest."""
    result = []
    for odd in odd_one_out.odd:
        rest = [
            component.value.value for component in odd_one_out.components if component.replica != odd.replica
        ]
        median = max(statistics.median(rest), 0.0) if rest else 0.0
        result.append(OddReplica(odd.replica, odd.component / median if median > 0 else math.inf))
    return result


def standing_alerts(store: Store, now: float) -> tuple[AlertRow, ...]:
    """Alerts that fire or are pending; `no-data` is among them wherever the probe's newest round is too old."""
    stored = query.alerts_at(store, now)
    fresh = query.freshness(store, Selection(now))
    silences = stored_silences(store, now)
    raised = any(alert.rule == NO_DATA and alert.state == "firing" for alert in stored)
    if fresh.stale and not raised:
        quiet = any(entry.silence.covers(NO_DATA, {}, now) for entry in silences)
        return (_no_data(fresh, now, silenced=quiet), *stored)
    return stored


def _no_data(fresh: Freshness, now: float, *, silenced: bool) -> AlertRow:
    age = fresh.age or 0.0
    started = int((fresh.time or 0) + fresh.limit)
    return AlertRow(
        id=None,
        rule=NO_DATA,
        labels={},
        severity="page",
        state="firing",
        started=started,
        fired=started,
        resolved=None,
        updated=int(now),
        notified="",
        silenced=silenced,
        value=age,
        threshold=fresh.limit,
        summary=f"the newest probe round is {wording.duration(age)} old: the monitor is silent, and so are its alerts",
    )
