"""Tables of the monitor's store, one class a table.

Integer keys keep the one large table, `cell`, narrow. Times are whole seconds since 1970 (UTC).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

MINUTE, TEN_MINUTES, HOUR, DAY = 60, 600, 3600, 86_400
TOTAL = 0
"""Resolution of the running total since the store began: what Prometheus's counters are made of."""


FLEET = "fleet"
"""The kind of a series whose cells hold the sums of every replica of a fleet: labels times members rows."""
MEMBERS = "members"
"""The label of a fleet's group that holds the ids of its subjects, in the order of its cells."""


class Base(DeclarativeBase):
    """The tables' registry."""

    type_annotation_map = {int: BigInteger, str: String(250), float: Float(53), bytes: LargeBinary}


def _key() -> Mapped[int]:
    # SQLite numbers rows by itself only where the type is exactly INTEGER
    return mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


class Layout(Base):
    """The labels of the measures whose sums a cell holds, in order, so that old cells stay readable."""

    __tablename__ = "layout"
    id: Mapped[int] = _key()
    fingerprint: Mapped[str] = mapped_column(unique=True)
    labels: Mapped[list[str]] = mapped_column(JSON)


class SubjectTable(Base):
    """A replica at one served version. Another model under the same number is another subject."""

    __tablename__ = "subject"
    __table_args__ = (UniqueConstraint("replica", "version", "fingerprint"),)
    id: Mapped[int] = _key()
    replica: Mapped[str]
    version: Mapped[int]
    fingerprint: Mapped[str]
    labels: Mapped[dict[str, Any]] = mapped_column(JSON)
    first_seen: Mapped[int]
    last_seen: Mapped[int]


class Series(Base):
    """What one chart line shows: two subjects (or one), a stream, a slice. Never crosses a version.

    `kind` is `pair`; `all` (the mean over pairs of a group); `replica` (a's mean over its pairs within group b); `again`
    (a asked twice) and `batch` (a alone against inside a batch); `refresh` (b against a, which it replaced); `gaps`
    (a pair's inversions by gap); `fleet` (each replica of a large group). `feature` and `value` are empty for all
    requests. `probe` is the hash of the frozen requests, empty for live traffic.
    """

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("stream", "kind", "a", "b", "feature", "value", "probe", "layout"),)
    id: Mapped[int] = _key()
    stream: Mapped[str]
    kind: Mapped[str]
    level: Mapped[str]
    a: Mapped[int] = mapped_column(ForeignKey("subject.id"))
    b: Mapped[int] = mapped_column(ForeignKey("subject.id"))
    feature: Mapped[str]
    value: Mapped[str]
    probe: Mapped[str]
    layout: Mapped[int] = mapped_column(ForeignKey("layout.id"))


class Cell(Base):
    """The sums of one series over [time, time + resolution); rounds counts the rounds in it.

    `elapsed` adds up the seconds from `time` to each of its rounds; None: the cell was written before this was kept.
    """

    __tablename__ = "cell"
    # rows lie in the order of time, which fills pages; the key finds a time range of one series
    __table_args__ = (UniqueConstraint("resolution", "series", "time"),)
    id: Mapped[int] = _key()
    resolution: Mapped[int] = mapped_column(Integer)
    series: Mapped[int] = mapped_column(ForeignKey("series.id"))
    time: Mapped[int]
    rounds: Mapped[int] = mapped_column(Integer)
    sums: Mapped[bytes]
    histogram: Mapped[bytes | None]
    elapsed: Mapped[int | None]


class Count(Base):
    """How many requests a replica was asked and answered in [time, time + resolution), and errors by kind."""

    __tablename__ = "count"
    __table_args__ = {"sqlite_with_rowid": False}
    resolution: Mapped[int] = mapped_column(Integer, primary_key=True)
    time: Mapped[int] = mapped_column(primary_key=True)
    stream: Mapped[str] = mapped_column(primary_key=True)
    replica: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]


class Round(Base):
    """A round that was written; `key` makes writing it again change nothing. `everyone`: the group that was compared.

    `interval_seconds` is the monitor's at that time (None: a single round, or unknown); `outcomes` are the round's own
    counts, replica -> kind -> requests.
    """

    __tablename__ = "round"
    __table_args__ = (Index("round_by_time", "stream", "time"),)
    id: Mapped[int] = _key()
    key: Mapped[str] = mapped_column(unique=True)
    stream: Mapped[str]
    time: Mapped[int]
    duration: Mapped[float]
    requests: Mapped[int]
    probe: Mapped[str]
    everyone: Mapped[int | None] = mapped_column(ForeignKey("subject.id"))
    interval_seconds: Mapped[float | None]
    outcomes: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class RolledUp(Base):
    """Up to which time the cells of a resolution are complete."""

    __tablename__ = "rolled_up"
    resolution: Mapped[int] = mapped_column(Integer, primary_key=True)
    until: Mapped[int]


class Event(Base):
    """A mark on the time axis: a refresh, a replica that may not be compared."""

    __tablename__ = "event"
    __table_args__ = (Index("event_by_time", "time"),)
    id: Mapped[int] = _key()
    key: Mapped[str] = mapped_column(unique=True)
    time: Mapped[int]
    kind: Mapped[str]
    replica: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)


class AlertTable(Base):
    """One alert's life: pending, firing, resolved; `notified` is the last state that every receiver took, or empty.

    `acknowledged`: when somebody took it on, and `acknowledged_by` who.
    """

    __tablename__ = "alert"
    __table_args__ = (Index("alert_by_time", "started"),)
    id: Mapped[int] = _key()
    rule: Mapped[str]
    labels: Mapped[dict[str, Any]] = mapped_column(JSON)
    key: Mapped[str]
    severity: Mapped[str]
    state: Mapped[str]
    started: Mapped[int]
    fired: Mapped[int | None]
    resolved: Mapped[int | None]
    updated: Mapped[int]
    notified: Mapped[str]
    silenced: Mapped[bool]
    value: Mapped[float | None]
    threshold: Mapped[float | None]
    summary: Mapped[str] = mapped_column(Text)
    acknowledged: Mapped[int | None]
    acknowledged_by: Mapped[str | None]


class Delivery(Base):
    """The last state of an alert that one receiver took, while others have not; `receiver` is a hash of who it is."""

    __tablename__ = "delivery"
    alert: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    receiver: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]


class SilenceEntry(Base):
    """Alerts of a rule (or `*`) with these labels are kept, but nobody is notified, from `start` until `until`."""

    __tablename__ = "silence"
    id: Mapped[int] = _key()
    rule: Mapped[str]
    labels: Mapped[dict[str, Any]] = mapped_column(JSON)
    start: Mapped[int]
    until: Mapped[int]
    author: Mapped[str]
    comment: Mapped[str] = mapped_column(Text)
