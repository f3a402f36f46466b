"""Sending alerts: a POST to each receiver; what a receiver did not take is sent again at the next evaluation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import httpx

from serving.monitor.alerts import messages
from serving.monitor.alerts.machine import FIRING, Alert
from serving.monitor.alerts.messages import Origin
from serving.monitor.alerts.rules import Receiver

log = logging.getLogger(__name__)


def send(
    receiver: Receiver,
    due: Sequence[Alert],
    firing: Sequence[Alert],
    origin: Origin,
    now: float,
    valid: float,
    timeout: float = 5.0,
) -> bool:
    """Sends alerts to one receiver; False (and a line in the log) if it did not take all of them.

    Args:
        receiver: who is sent them.
        due: alerts that began or ended and were not sent yet.
        firing: all that fire and that somebody may be notified of: Alertmanager wants them again and again.
        origin: where they come from.
        now: seconds since 1970.
        valid: seconds for which Alertmanager takes a firing alert as firing.
        timeout: seconds.
    """
    bodies: list[Any] = []
    url = receiver.url
    if receiver.kind == "alertmanager":
        url = f"{receiver.url.rstrip('/')}/api/v2/alerts"
        ended = [alert for alert in due if alert.state != FIRING]
        alerts = [
            *ended,
            *firing,
        ]  # of one that fires anew the end goes first: the last of a label set stands
        bodies = [messages.alertmanager_alerts(alerts, origin, now, valid)] if alerts else []
    elif receiver.kind == "pagerduty":
        bodies = [messages.pagerduty_event(alert, origin, receiver.routing_key) for alert in due]
    elif due:
        make = messages.slack_message if receiver.kind == "slack" else messages.webhook_message
        bodies = [make(due, origin)]
    try:
        for body in bodies:
            httpx.post(url, json=body, timeout=timeout).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # a webhook's address may be a secret, and httpx's texts have it
        reason = (
            f"HTTP {error.response.status_code}"
            if isinstance(error, httpx.HTTPStatusError)
            else type(error).__name__
        )
        log.warning("the %s receiver did not take %d alerts: %s", receiver.kind, max(len(due), 1), reason)
        return False
    return True
