"""Alerts in the forms of those who notify: Alertmanager's webhook and API v2, PagerDuty's events, Slack's messages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode

from ranker.config import fingerprint
from serving.monitor.alerts.machine import FIRING, RESOLVED, Alert

_MARKS = {RESOLVED: ":white_check_mark:", "page": ":rotating_light:", "ticket": ":warning:"}
_SEVERITIES = {"page": "critical", "ticket": "warning"}


@dataclass(frozen=True)
class Origin:
    """Where alerts come from.

    Attributes:
        deployment: its model's name.
        dashboard: address of the dashboard, for links; empty: none.
        runbooks: address of the page that explains alerts; empty: none.
    """

    deployment: str
    dashboard: str = ""
    runbooks: str = ""

    def alerts_page(self) -> str:
        """Link to the dashboard's alerts."""
        return f"{self.dashboard.rstrip('/')}/alerts" if self.dashboard else ""

    def evidence(self, alert: Alert) -> str:
        """Link to the page that shows what the alert is about, at the time it began."""
        if not self.dashboard:
            return ""
        query = {"measure": alert.labels["measure"]} if "measure" in alert.labels else {}
        return f"{self.dashboard.rstrip('/')}/{'?' + urlencode(query) if query else ''}"

    def runbook(self, alert: Alert) -> str:
        """Link to what to do."""
        return f"{self.runbooks}#{alert.rule}" if self.runbooks else ""


def labels_of(alert: Alert, origin: Origin) -> dict[str, str]:
    """An alert's labels; what Prometheus would forward has the same `rule`, `severity`, `replica` and `measure`."""
    return {
        "alertname": alert.rule,
        "severity": alert.severity,
        "deployment": origin.deployment,
        **alert.labels,
    }


def webhook_message(alerts: Sequence[Alert], origin: Origin) -> dict[str, Any]:
    """The body for some alerts of one deployment.

    Source: Alertmanager's documentation, "webhook_config", version 4 of the message.
    """
    common = {"deployment": origin.deployment}
    return {
        "version": "4",
        "groupKey": f"ranker/{origin.deployment}",
        "truncatedAlerts": 0,
        "status": FIRING if any(alert.state == FIRING for alert in alerts) else RESOLVED,
        "receiver": "ranker",
        "groupLabels": common,
        "commonLabels": common,
        "commonAnnotations": {},
        "externalURL": origin.alerts_page(),
        "alerts": [
            {
                "status": alert.state,
                "labels": labels_of(alert, origin),
                "annotations": _annotations(alert, origin),
                "startsAt": _time(alert.started),
                "endsAt": _time(alert.resolved) if alert.resolved else "0001-01-01T00:00:00Z",
                "generatorURL": origin.evidence(alert),
                "fingerprint": fingerprint(alert.key),
            }
            for alert in alerts
        ],
    }


def alertmanager_alerts(
    alerts: Sequence[Alert], origin: Origin, now: float, valid: float
) -> list[dict[str, Any]]:
    """The body of `POST /api/v2/alerts`.

    Args:
        alerts: that fire or have ended.
        origin: where they come from.
        now: seconds since 1970.
        valid: seconds after which a firing alert ends if it is not sent again.

    Source: Alertmanager's OpenAPI description, `postableAlerts`.
    """
    return [
        {
            "labels": labels_of(alert, origin),
            "annotations": _annotations(alert, origin),
            "startsAt": _time(alert.started),
            "endsAt": _time(alert.resolved if alert.resolved is not None else int(now + valid)),
            **({"generatorURL": origin.evidence(alert)} if origin.dashboard else {}),
        }
        for alert in alerts
    ]


def pagerduty_event(alert: Alert, origin: Origin, routing_key: str) -> dict[str, Any]:
    """One event of PagerDuty's Events API v2: `trigger` while it fires, `resolve` when it has ended.

    Source: PagerDuty's documentation, "Send an alert event" (summary of at most 1,024 characters, key of at most 255).
    """
    links = [
        {"href": address, "text": text}
        for text, address in (
            ("Dashboard", origin.evidence(alert)),
            ("Alerts", origin.alerts_page()),
            ("Runbook", origin.runbook(alert)),
        )
        if address
    ]
    event: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": "trigger" if alert.state == FIRING else "resolve",
        "dedup_key": f"ranker/{origin.deployment}/{fingerprint(alert.key)}",
        "payload": {
            "summary": f"{origin.deployment}: {alert.summary}"[:1024],
            "source": alert.labels.get("replica", origin.deployment),
            "severity": _SEVERITIES.get(alert.severity, "error"),
            "timestamp": _time(alert.started),
            "component": alert.labels.get("replica", ""),
            "group": origin.deployment,
            "class": alert.rule,
            "custom_details": {**labels_of(alert, origin), **_annotations(alert, origin)},
        },
        "client": "Steady Ranker",
        "links": links,
    }
    if origin.dashboard:
        event["client_url"] = origin.alerts_page()
    return event


def slack_message(alerts: Sequence[Alert], origin: Origin) -> dict[str, Any]:
    """A message for a Slack incoming webhook: a line an alert, and `text` for notifications.

    Source: Slack's documentation, "Sending messages using incoming webhooks" and "Formatting text" (`&`, `<`, `>`).
    """
    lines = [_slack_line(alert, origin) for alert in alerts]
    return {
        "text": "\n".join(lines)[:3000],
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": line[:3000]}} for line in lines[:50]
        ],
    }


def _slack_line(alert: Alert, origin: Origin) -> str:
    mark = _MARKS[RESOLVED if alert.state == RESOLVED else alert.severity]
    links = [
        f"<{address}|{text}>"
        for text, address in (("dashboard", origin.evidence(alert)), ("runbook", origin.runbook(alert)))
        if address
    ]
    text = (
        f"{mark} *{_escaped(origin.deployment)} {alert.state}* ({alert.severity}, {_escaped(alert.rule)}): "
    )
    return text + _escaped(alert.summary) + (f"  {' · '.join(links)}" if links else "")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _annotations(alert: Alert, origin: Origin) -> dict[str, str]:
    links = {"dashboard_url": origin.evidence(alert), "runbook_url": origin.runbook(alert)}
    return {
        "summary": alert.summary,
        "value": _number(alert.value),
        "threshold": _number(alert.threshold),
        **{name: address for name, address in links.items() if address},
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
