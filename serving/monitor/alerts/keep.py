"""Alerts in the store: one row a life, so that a restarted monitor goes on where it was."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace

from sqlalchemy import delete, func, insert, select, update

from serving.monitor.alerts.machine import PENDING, Alert
from serving.monitor.store import Store
from serving.monitor.store.schema import Alert as AlertTable


def load_alerts(store: Store) -> dict[str, Alert]:
    """The newest alert of each key."""
    newest = select(func.max(AlertTable.id)).group_by(AlertTable.key)
    with store.read() as connection:
        rows = connection.execute(select(AlertTable.__table__).where(AlertTable.id.in_(newest))).all()
    return {
        row.key: Alert(**{name: value for name, value in row._mapping.items() if name != "key"})
        for row in rows
    }


def save_alerts(store: Store, before: dict[str, Alert], after: dict[str, Alert]) -> dict[str, Alert]:
    """Writes what changed, in one transaction; returns the alerts with their rows."""
    saved = {}
    with store.write() as connection:
        for key, alert in before.items():
            if alert.state == PENDING and key not in after and alert.id is not None:
                connection.execute(delete(AlertTable).where(AlertTable.id == alert.id))
        for key, alert in after.items():
            if alert.id is not None and before.get(key) == alert:
                saved[key] = alert
                continue
            values = {name: value for name, value in asdict(alert).items() if name != "id"} | {"key": key}
            if alert.id is None:
                row = connection.execute(
                    insert(AlertTable).values(**values).returning(AlertTable.id)
                ).scalar_one()
                saved[key] = replace(alert, id=row)
            else:
                connection.execute(update(AlertTable).where(AlertTable.id == alert.id).values(**values))
                saved[key] = alert
    return saved


def mark_sent(store: Store, alerts: Iterable[Alert]) -> None:
    """Remembers that these alerts' states were sent on."""
    with store.write() as connection:
        for alert in alerts:
            connection.execute(
                update(AlertTable).where(AlertTable.id == alert.id).values(notified=alert.state)
            )
