"""From the store to messages: every rule looked at once, changes kept, then sent."""

from __future__ import annotations

from collections.abc import Mapping

from serving.monitor.alerts import webhook
from serving.monitor.alerts.conditions import findings
from serving.monitor.alerts.keep import load_alerts, mark_sent, save_alerts, stored_silences
from serving.monitor.alerts.machine import Alert, step
from serving.monitor.alerts.rules import Rules
from serving.monitor.alerts.situation import situation
from serving.monitor.store import Store


def evaluate(
    store: Store, rules: Rules, budget: Mapping[str, float], before: Mapping[str, Alert], now: float
) -> dict[str, Alert]:
    """The newest alert of each key after looking at every rule at `now`; reads the store, writes nothing.

    Silences are those of the rule file and those that were set from the dashboard.
    """
    silences = (*rules.silences, *(stored.silence for stored in stored_silences(store, now)))
    after: dict[str, Alert] = {}
    for rule in rules.rules:
        mine = {key: alert for key, alert in before.items() if alert.rule == rule.name}
        known = situation(store, rule, now)
        after.update(step(mine, rule, findings(rule, known, budget), now, silences, known.events))
    return after


def watch(
    store: Store, rules: Rules, budget: Mapping[str, float], now: float, deployment: str = "ranker"
) -> list[Alert]:
    """Looks at every rule, keeps what changed, and tells the webhook.

    What could not be sent is sent again at the next look; a kill between sending and remembering sends it twice,
    never not at all.

    Returns:
        The alerts that were due to be sent.
    """
    before = load_alerts(store)
    after = save_alerts(store, before, evaluate(store, rules, budget, before, now))
    due = [alert for alert in after.values() if alert.to_send]
    if due and (rules.webhook is None or webhook.post(rules.webhook, due, deployment)):
        mark_sent(store, due)
    return due
