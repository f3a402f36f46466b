"""An alert's life: pending, firing, resolved. Pure: findings and the time in, states and messages out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ranker.json_text import json_text
from serving.monitor.alerts.conditions import Finding
from serving.monitor.alerts.rules import Rule, Silence
from serving.monitor.store.results import EventRow

PENDING, FIRING, RESOLVED = "pending", "firing", "resolved"
QUIET = "quiet"
"""`notified` of an alert that came back within its rule's cooldown: nobody is told unless it stays longer than that."""
FORGOTTEN_AFTER = 3600.0
"""Seconds after which a firing alert about something that no rule speaks of any more (a removed replica) ends."""


@dataclass(frozen=True)
class Alert:
    """One alert; times in seconds since 1970.

    Attributes:
        rule: the rule's name.
        labels: what it is about.
        severity: `page` or `ticket`.
        state: `pending`, `firing` or `resolved`.
        started: when the condition began to hold.
        fired, resolved: when it reached that state.
        updated: when the condition last held.
        notified: the last state that was sent on; empty: none.
        silenced: nobody is notified, at the moment.
        acknowledged, acknowledged_by: when and who took it on; None: nobody did.
        id: its row in the store; None: not stored yet.
    """

    rule: str
    labels: Mapping[str, str]
    severity: str
    state: str
    started: int
    updated: int
    fired: int | None = None
    resolved: int | None = None
    notified: str = ""
    silenced: bool = False
    value: float | None = None
    threshold: float | None = None
    summary: str = ""
    acknowledged: int | None = None
    acknowledged_by: str | None = None
    id: int | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """What it is about; one alert a key is pending or firing at a time."""
        return key_of(self.rule, self.labels)

    @property
    def to_send(self) -> bool:
        """Whether its state is one that somebody should hear and has not."""
        return self.is_news_after(self.notified)

    def is_news_after(self, state: str) -> bool:
        """Whether somebody should hear of it who was last told this state; empty: nothing yet."""
        if self.silenced:
            return False
        if self.state == FIRING:
            return not state and self.acknowledged is None
        return self.state == RESOLVED and state == FIRING


def key_of(rule: str, labels: Mapping[str, str]) -> str:
    """A text that names a rule and what it is about."""
    return f"{rule} {json_text(dict(sorted(labels.items())))}"


def step(
    before: Mapping[str, Alert],
    rule: Rule,
    findings: Sequence[Finding],
    now: float,
    silences: Sequence[Silence] = (),
    events: Sequence[EventRow] = (),
) -> dict[str, Alert]:
    """One rule's alerts after a look.

    Args:
        before: the newest alert of each key of this rule.
        rule: the rule.
        findings: those of its condition.
        now: seconds since 1970.
        silences: who is not told.
        events: recent marks; a new alert's summary names the newest refresh.

    Returns:
        The newest alert of each key; a pending one whose condition ended is gone.
    """
    after: dict[str, Alert] = {}
    seen = set()
    for finding in findings:
        key = key_of(rule.name, finding.labels)
        seen.add(key)
        alert = _next(before.get(key), rule, finding, now, events)
        if alert is not None:
            quiet = any(silence.covers(rule.name, dict(finding.labels), now) for silence in silences)
            after[key] = replace(alert, silenced=quiet)
    for key, alert in before.items():
        if key in seen:
            continue
        if alert.state == FIRING and now - alert.updated >= FORGOTTEN_AFTER:
            alert = replace(alert, state=RESOLVED, resolved=int(now))
        if alert.state != PENDING:
            after[key] = alert
    return after


def _next(
    alert: Alert | None, rule: Rule, finding: Finding, now: float, events: Sequence[EventRow]
) -> Alert | None:
    time = int(now)
    if alert is None or alert.state == RESOLVED:
        if not finding.active:
            return alert
        cooling = alert is not None and alert.resolved is not None and now - alert.resolved < rule.cooldown
        new = Alert(
            rule=rule.name,
            labels=dict(finding.labels),
            severity=rule.severity,
            state=PENDING,
            started=time,
            updated=time,
            notified=QUIET if cooling else "",
            summary=finding.summary + _refreshed(events, now),
        )
        alert = new
    alert = replace(alert, value=finding.value, threshold=finding.threshold)
    if finding.active:
        marked = finding.summary + _refreshed([event for event in events if event.time <= alert.started], now)
        alert = replace(alert, updated=time, summary=marked)
        if alert.state == PENDING and now - alert.started >= rule.wait:
            alert = replace(alert, state=FIRING, fired=time)
        if alert.notified == QUIET and now - alert.started >= rule.cooldown:
            alert = replace(alert, notified="")
        return alert
    if alert.state == PENDING:
        return None
    if finding.cleared:
        return replace(alert, state=RESOLVED, resolved=time)
    return replace(alert, updated=time)


def _refreshed(events: Sequence[EventRow], now: float) -> str:
    refresh = next((event for event in events if event.kind == "refresh"), None)
    if refresh is None:
        return ""
    old, new = refresh.detail.get("old"), refresh.detail.get("new")
    return f"; {refresh.replica} was refreshed from version {old} to {new} {max(now - refresh.time, 0) / 60:.0f} min ago"
