"""Rounds say their interval and who answered; cells when their rounds were; silences and acknowledgements."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Adds columns, empty for what is there, and one table."""
    op.add_column("round", sa.Column("interval_seconds", sa.Float(precision=53), nullable=True))
    op.add_column("round", sa.Column("outcomes", sa.JSON(), nullable=True))
    op.add_column("cell", sa.Column("elapsed", sa.BigInteger(), nullable=True))
    op.add_column("alert", sa.Column("acknowledged", sa.BigInteger(), nullable=True))
    op.add_column("alert", sa.Column("acknowledged_by", sa.String(length=250), nullable=True))
    op.create_table(
        "silence",
        sa.Column("id", KEY, nullable=False),
        sa.Column("rule", sa.String(length=250), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.String(length=250), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
