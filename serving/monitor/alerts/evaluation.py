"""Evaluates every alert rule on the store, saves the changed alerts and sends them."""

from __future__ import annotations

from collections.abc import Mapping

from serving.monitor.alerts.conditions import findings
from serving.monitor.alerts.keep import load_alerts, mark_sent, save_alerts, stored_silences
from serving.monitor.alerts.machine import FIRING, Alert, step
from serving.monitor.alerts.messages import Origin
from serving.monitor.alerts.rules import Rules
from serving.monitor.alerts.send import send
from serving.monitor.alerts.situation import situation
from serving.monitor.store import Store
from serving.monitor.store.query import freshness

_LEAST_VALID = 300.0
"""Seconds that Alertmanager takes a firing alert as firing, at least: a monitor that restarts ends no alert."""


def evaluate(
    store: Store, rules: Rules, budget: Mapping[str, float], before: Mapping[str, Alert], now: float
) -> dict[str, Alert]:
    """The newest alert of each key after looking at every rule at `now`; reads the store, writes nothing.

    Silences are those of the rule file and those that were set from the dashboard.
    """
    silences = (*rules.silences, *(stored.silence for stored in stored_silences(store, now)))
    after: dict[str, Alert] = {}
    for rule in rules.rules:
        alerts_of_rule = {key: alert for key, alert in before.items() if alert.rule == rule.name}
        facts = situation(store, rule, now)
        changed = step(alerts_of_rule, rule, findings(rule, facts, budget), now, silences, facts.events)
        after.update(changed)
    return after


def evaluate_and_send(
    store: Store, rules: Rules, budget: Mapping[str, float], now: float, origin: Origin | str = "ranker"
) -> list[Alert]:
    """Evaluates every rule, saves the changed alerts, and sends them to every receiver.

    Alerts that one receiver did not take are sent to all again at the next evaluation. A kill between sending and saving
    sends them twice, never not at all.

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
    due = [alert for alert in after.values() if alert.to_send]
    firing = [
        alert
        for alert in after.values()
        if alert.state == FIRING and not alert.silenced and alert.acknowledged is None
    ]
    valid = max(4 * (freshness(store, now).interval or 0.0), _LEAST_VALID)
    taken = [send(receiver, due, firing, source, now, valid) for receiver in rules.everyone()]
    if due and all(taken):
        mark_sent(store, due)
    return due
