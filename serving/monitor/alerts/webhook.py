"""Telling people: a POST in the form of Alertmanager's webhook, so that its receivers work unchanged."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import httpx

from ranker.config import fingerprint
from serving.monitor.alerts.machine import FIRING, RESOLVED, Alert

log = logging.getLogger(__name__)


def payload(alerts: Sequence[Alert], deployment: str) -> dict[str, Any]:
    """The body for some alerts of one deployment.

    Source: Alertmanager's documentation, "webhook_config", version 4 of the message.
    """
    common = {"deployment": deployment}
    return {
        "version": "4",
        "groupKey": f"ranker/{deployment}",
        "truncatedAlerts": 0,
        "status": FIRING if any(alert.state == FIRING for alert in alerts) else RESOLVED,
        "receiver": "ranker",
        "groupLabels": common,
        "commonLabels": common,
        "commonAnnotations": {},
        "externalURL": "",
        "alerts": [
            {
                "status": alert.state,
                "labels": {"alertname": alert.rule, "severity": alert.severity, **common, **alert.labels},
                "annotations": {
                    "summary": alert.summary,
                    "value": _number(alert.value),
                    "threshold": _number(alert.threshold),
                },
                "startsAt": _time(alert.started),
                "endsAt": _time(alert.resolved) if alert.resolved else "0001-01-01T00:00:00Z",
                "generatorURL": "",
                "fingerprint": fingerprint(alert.key),
            }
            for alert in alerts
        ],
    }


def post(url: str, alerts: Sequence[Alert], deployment: str, timeout: float = 5.0) -> bool:
    """Sends alerts; False (and a line in the log) if the receiver did not take them."""
    try:
        httpx.post(url, json=payload(alerts, deployment), timeout=timeout).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        log.warning("%s did not take %d alerts: %s", url, len(alerts), error)
        return False
    return True


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
