"""Alerts in the store: one row a life, so that a restarted monitor goes on where it was; silences; acknowledgements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update

from ranker.errors import UserError
from serving.monitor.alerts.machine import FIRING, PENDING, RESOLVED, Alert
from serving.monitor.alerts.rules import Silence
from serving.monitor.store import Store
from serving.monitor.store.schema import AlertTable, Delivery, SilenceEntry

LONGEST_SILENCE = 90 * 86_400
"""Seconds. What must be quiet for longer is a rule to be changed."""
_NOT_THE_MONITORS = ("id", "acknowledged", "acknowledged_by")
"""Columns of an alert that people write, while the monitor evaluates."""


def load_alerts(store: Store) -> dict[str, Alert]:
    """The newest alert of each key."""
    newest = select(func.max(AlertTable.id)).group_by(AlertTable.key)
    with store.read() as connection:
        rows = connection.execute(select(AlertTable.__table__).where(AlertTable.id.in_(newest))).all()
    return {row.key: _alert(row) for row in rows}


def untold_endings(store: Store) -> tuple[Alert, ...]:
    """Alerts whose end a receiver has yet to hear, and whose key had a further life since; the oldest first."""
    newest = select(func.max(AlertTable.id)).group_by(AlertTable.key)
    heard = (AlertTable.notified == FIRING) | AlertTable.id.in_(select(Delivery.alert))
    with store.read() as connection:
        rows = connection.execute(
            select(AlertTable.__table__)
            .where(AlertTable.state == RESOLVED, heard, AlertTable.id.not_in(newest))
            .order_by(AlertTable.id)
        ).all()
    return tuple(_alert(row) for row in rows)


def _alert(row: Row[Any]) -> Alert:
    return Alert(**{name: value for name, value in row._mapping.items() if name != "key"})


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
            values = {name: value for name, value in asdict(alert).items() if name not in _NOT_THE_MONITORS}
            values["key"] = key
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
    """Remembers that everybody was told these alerts' states."""
    with store.write() as connection:
        for alert in alerts:
            connection.execute(
                update(AlertTable).where(AlertTable.id == alert.id).values(notified=alert.state)
            )
            connection.execute(delete(Delivery).where(Delivery.alert == alert.id))


def deliveries(store: Store) -> dict[tuple[int, str], str]:
    """(alert, receiver) -> the last state that the receiver took, of alerts that not everybody has taken."""
    with store.read() as connection:
        rows = connection.execute(select(Delivery.alert, Delivery.receiver, Delivery.state)).all()
    return {(row.alert, row.receiver): row.state for row in rows}


def save_deliveries(store: Store, taken: Mapping[tuple[int, str], str]) -> None:
    """Remembers (alert, receiver) -> state."""
    with store.write() as connection:
        for (alert, receiver), state in taken.items():
            connection.execute(delete(Delivery).where(Delivery.alert == alert, Delivery.receiver == receiver))
            connection.execute(insert(Delivery).values(alert=alert, receiver=receiver, state=state))


def acknowledge(store: Store, alert: int, author: str, now: float) -> None:
    """Somebody takes an alert on: nobody else is notified of it until it ends.

    Args:
        store: the monitor's.
        alert: its row.
        author: who takes it on.
        now: seconds since 1970.

    Raises:
        UserError: no author, no such alert, or it has ended.
    """
    if not author.strip():
        raise UserError("an acknowledgement must say who takes the alert on. Received: author=''")
    with store.write() as connection:
        changed = connection.execute(
            update(AlertTable)
            .where(AlertTable.id == alert, AlertTable.state != RESOLVED)
            .values(acknowledged=int(now), acknowledged_by=author.strip()[:250])
        ).rowcount
    if not changed:
        raise UserError(
            f"only an alert that fires or is pending can be acknowledged. Received: alert {alert}"
        )


@dataclass(frozen=True)
class StoredSilence:
    """A silence and its row."""

    id: int
    silence: Silence


def add_silence(store: Store, silence: Silence, now: float) -> int:
    """Keeps a silence; returns its row.

    Raises:
        UserError: no author, no reason, over already, longer than 90 days.
    """
    for name in ("author", "comment"):
        if not getattr(silence, name).strip():
            raise UserError(f"a silence must have its `{name}`. Received: {name}=''")
    start, until = int(silence.start.timestamp()), int(silence.end.timestamp())
    if until <= now:
        raise UserError(f"a silence must end in the future. Received: end={silence.end.isoformat()}")
    if until - now > LONGEST_SILENCE:
        raise UserError(
            f"a silence must end within {LONGEST_SILENCE // 86_400} days. Received: end={silence.end.isoformat()}"
        )
    values = {
        "rule": silence.rule[:250],
        "labels": dict(silence.labels),
        "start": start,
        "until": until,
        "author": silence.author.strip()[:250],
        "comment": silence.comment.strip(),
    }
    with store.write() as connection:
        return connection.execute(
            insert(SilenceEntry).values(**values).returning(SilenceEntry.id)
        ).scalar_one()


def end_silence(store: Store, silence: int, now: float) -> None:
    """Ends a silence now; what it kept quiet is heard again.

    Raises:
        UserError: there is no such silence, or it is over.
    """
    with store.write() as connection:
        changed = connection.execute(
            update(SilenceEntry)
            .where(SilenceEntry.id == silence, SilenceEntry.until > int(now))
            .values(until=int(now))
        ).rowcount
    if not changed:
        raise UserError(f"only a silence that is not over can be ended. Received: silence {silence}")


def stored_silences(store: Store, now: float) -> tuple[StoredSilence, ...]:
    """Silences that are not over, the first to end first."""
    with store.read() as connection:
        rows = connection.execute(
            select(SilenceEntry.__table__).where(SilenceEntry.until > int(now)).order_by(SilenceEntry.until)
        ).all()
    return tuple(
        StoredSilence(
            row.id,
            Silence.model_construct(
                rule=row.rule,
                labels=row.labels,
                start=datetime.fromtimestamp(row.start, timezone.utc),
                end=datetime.fromtimestamp(row.until, timezone.utc),
                comment=row.comment,
                author=row.author,
            ),
        )
        for row in rows
    )
