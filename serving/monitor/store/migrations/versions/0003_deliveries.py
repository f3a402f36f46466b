"""Which receiver took an alert, where others did not."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds one table."""
    op.create_table(
        "delivery",
        sa.Column("alert", sa.BigInteger(), nullable=False),
        sa.Column("receiver", sa.String(length=250), nullable=False),
        sa.Column("state", sa.String(length=250), nullable=False),
        sa.PrimaryKeyConstraint("alert", "receiver"),
    )


def downgrade() -> None:
    """Drops it."""
    op.drop_table("delivery")
