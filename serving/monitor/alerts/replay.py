"""Rules tried on history: what would have been said, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import func, select

from ranker.errors import UserError
from serving.monitor.alerts.evaluation import evaluate
from serving.monitor.alerts.machine import Alert
from serving.monitor.alerts.rules import Rules
from serving.monitor.store import Store
from serving.monitor.store.schema import Round

MOST_LOOKS = 100_000


@dataclass(frozen=True)
class Notification:
    """A message that would have been sent at `time`."""

    time: int
    alert: Alert


def replay(
    store: Store, rules: Rules, budget: Mapping[str, float], start: float, end: float, interval: float = 60.0
) -> list[Notification]:
    """Looks at the store as it was, every `interval` seconds from `start` to `end`; changes nothing.

    It begins at the first round that the store still has: before it "no data" would be all there is to say.

    Raises:
        UserError: times out of order, an interval that is not positive, more than 100,000 looks.
    """
    if not start < end:
        raise UserError(f"a replay must end after it starts. Received: {start:g} to {end:g}")
    if not interval > 0 or (end - start) / interval > MOST_LOOKS:
        raise UserError(
            f"a replay must take at most {MOST_LOOKS} looks. Received: every {interval:g} s for {end - start:g} s"
        )
    notifications: list[Notification] = []
    alerts: dict[str, Alert] = {}
    with store.read() as connection:
        first = connection.execute(select(func.min(Round.time))).scalar()
    now = start if first is None else max(start, float(first))
    while now <= end:
        alerts = evaluate(store, rules, budget, alerts, now)
        for key, alert in alerts.items():
            if alert.to_send:
                notifications.append(Notification(int(now), alert))
                alerts[key] = replace(alert, notified=alert.state)
        now += interval
    return notifications
