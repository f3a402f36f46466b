"""Evaluates every alert rule on the store, saves the changed alerts and sends them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from serving.monitor.alerts.conditions import findings
from serving.monitor.alerts.keep import (
    deliveries,
    load_alerts,
    mark_sent,
    save_alerts,
    save_deliveries,
    stored_silences,
    untold_endings,
)
from serving.monitor.alerts.machine import FIRING, Alert, step
from serving.monitor.alerts.messages import Origin
from serving.monitor.alerts.rules import Rules, Silence
from serving.monitor.alerts.send import send
from serving.monitor.alerts.situation import situation
from serving.monitor.store import Store
from serving.monitor.store.query import Selection, freshness

_LEAST_VALID = 300.0
"""Seconds that Alertmanager takes a firing alert as firing, at least: a monitor that restarts ends no alert."""


def evaluate(
    store: Store, rules: Rules, budget: Mapping[str, float], before: Mapping[str, Alert], now: float
) -> dict[str, Alert]:
    """The newest alert of each key after looking at every rule at `now`; reads the store, writes nothing.

    Silences are those of the rule file and those that were set from the dashboard.
    """
    silences = _silences(store, rules, now)
    after: dict[str, Alert] = {}
    for rule in rules.rules:
        alerts_of_rule = {key: alert for key, alert in before.items() if alert.rule == rule.name}
        facts = situation(store, rule, now)
        changed = step(
            before=alerts_of_rule,
            rule=rule,
            findings=findings(rule, facts, budget),
            now=now,
            silences=silences,
            events=facts.events,
        )
        after.update(changed)
    return after


def _silences(store: Store, rules: Rules, now: float) -> tuple[Silence, ...]:
    return (*rules.silences, *(stored.silence for stored in stored_silences(store, now)))


def evaluate_and_send(
    store: Store, rules: Rules, budget: Mapping[str, float], now: float, origin: Origin | str = "ranker"
) -> list[Alert]:
    """Evaluates every rule, saves the changed alerts, and sends them to every receiver.

    What a receiver did not take is sent to it again at the next evaluation, and to it alone. The end of an alert is
    sent even if the alert fires anew meanwhile, and before that. A kill between sending and saving sends an alert
    twice, never not at all.

    Args:
        store: the monitor's.
        rules: the rules, and the receivers of their alerts.
        budget: measure -> what the configuration allows.
        now: seconds since 1970.
        origin: where the alerts come from; a text: the deployment's name, without links.

    Returns:
        The alerts that were due to be sent.
    """
    source = origin if isinstance(origin, Origin) else Origin(origin)
    before = load_alerts(store)
    after = save_alerts(store, before, evaluate(store, rules, budget, before, now))
    silences = _silences(store, rules, now)
    endings = [
        replace(
            ending,
            silenced=any(silence.covers(ending.rule, dict(ending.labels), now) for silence in silences),
        )
        for ending in untold_endings(store)
    ]
    alerts = [*endings, *after.values()]
    due = {alert.id: alert for alert in alerts if alert.to_send}
    firing = [
        alert
        for alert in after.values()
        if alert.state == FIRING and not alert.silenced and alert.acknowledged is None
    ]
    valid = max(4 * (freshness(store, Selection(now)).interval or 0.0), _LEAST_VALID)
    states = deliveries(store)
    taken: dict[tuple[int, str], str] = {}
    failed: set[int | None] = set()
    for receiver in rules.everyone():
        news = [
            alert
            for alert in alerts
            if alert.is_news_after(states.get((alert.id or 0, receiver.identity), alert.notified))
        ]
        due |= {alert.id: alert for alert in news}
        if send(receiver, news, firing, source, now, valid):
            taken |= {(alert.id or 0, receiver.identity): alert.state for alert in news}
        else:
            failed |= {alert.id for alert in news}
    partly = {key: state for key, state in taken.items() if key[0] in failed}
    if partly:
        save_deliveries(store, partly)
    heard = {alert.id: alert for alert in endings if not alert.silenced} | due
    everywhere = [alert for alert in heard.values() if alert.id not in failed]
    if everywhere:
        mark_sent(store, everywhere)
    return list(due.values())
