"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Creates every table."""
    op.create_table(
        "alert",
        sa.Column("id", KEY, nullable=False),
        sa.Column("rule", sa.String(length=250), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("severity", sa.String(length=250), nullable=False),
        sa.Column("state", sa.String(length=250), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("fired", sa.BigInteger(), nullable=True),
        sa.Column("resolved", sa.BigInteger(), nullable=True),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("notified", sa.String(length=250), nullable=False),
        sa.Column("silenced", sa.Boolean(), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=True),
        sa.Column("threshold", sa.Float(precision=53), nullable=True),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alert_by_time", "alert", ["started"], unique=False)
    op.create_table(
        "count",
        sa.Column("resolution", sa.Integer(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.String(length=250), nullable=False),
        sa.Column("replica", sa.String(length=250), nullable=False),
        sa.Column("kind", sa.String(length=250), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("resolution", "time", "stream", "replica", "kind"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event",
        sa.Column("id", KEY, nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=250), nullable=False),
        sa.Column("replica", sa.String(length=250), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index("event_by_time", "event", ["time"], unique=False)
    op.create_table(
        "layout",
        sa.Column("id", KEY, nullable=False),
        sa.Column("fingerprint", sa.String(length=250), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("fingerprint"),
    )
    op.create_table(
        "rolled_up",
        sa.Column("resolution", sa.Integer(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("resolution"),
    )
    op.create_table(
        "subject",
        sa.Column("id", KEY, nullable=False),
        sa.Column("replica", sa.String(length=250), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.String(length=250), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("replica", "version", "fingerprint"),
    )
    op.create_table(
        "round",
        sa.Column("id", KEY, nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("stream", sa.String(length=250), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("duration", sa.Float(precision=53), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("probe", sa.String(length=250), nullable=False),
        sa.Column("everyone", KEY, nullable=True),
        sa.ForeignKeyConstraint(
            ["everyone"],
            ["subject.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index("round_by_time", "round", ["stream", "time"], unique=False)
    op.create_table(
        "series",
        sa.Column("id", KEY, nullable=False),
        sa.Column("stream", sa.String(length=250), nullable=False),
        sa.Column("kind", sa.String(length=250), nullable=False),
        sa.Column("level", sa.String(length=250), nullable=False),
        sa.Column("a", KEY, nullable=False),
        sa.Column("b", KEY, nullable=False),
        sa.Column("feature", sa.String(length=250), nullable=False),
        sa.Column("value", sa.String(length=250), nullable=False),
        sa.Column("probe", sa.String(length=250), nullable=False),
        sa.Column("layout", KEY, nullable=False),
        sa.ForeignKeyConstraint(
            ["a"],
            ["subject.id"],
        ),
        sa.ForeignKeyConstraint(
            ["b"],
            ["subject.id"],
        ),
        sa.ForeignKeyConstraint(
            ["layout"],
            ["layout.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("stream", "kind", "a", "b", "feature", "value", "probe", "layout"),
    )
    op.create_table(
        "cell",
        sa.Column("id", KEY, nullable=False),
        sa.Column("resolution", sa.Integer(), nullable=False),
        sa.Column("series", KEY, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("sums", sa.LargeBinary(), nullable=False),
        sa.Column("histogram", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["series"],
            ["series.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("resolution", "series", "time"),
    )


def downgrade() -> None:
    """Drops every table."""
    op.drop_table("cell")
    op.drop_table("series")
    op.drop_index("round_by_time", table_name="round")
    op.drop_table("round")
    op.drop_table("subject")
    op.drop_table("rolled_up")
    op.drop_table("layout")
    op.drop_index("event_by_time", table_name="event")
    op.drop_table("event")
    op.drop_table("count")
    op.drop_index("alert_by_time", table_name="alert")
    op.drop_table("alert")
