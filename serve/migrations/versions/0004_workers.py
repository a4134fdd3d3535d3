"""Processes that share a database: pictures to be computed, events, workers."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds tables."""
    op.create_table(
        "tasks",
        _job(),
        sa.Column("index", sa.Integer, primary_key=True),
        sa.Column("client", sa.String(64), nullable=False, index=True),
        sa.Column("turn", sa.BigInteger, nullable=False, index=True),
        sa.Column("model", sa.String(200)),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("most", sa.Integer, nullable=False),
        sa.Column("shares", sa.Boolean, nullable=False),
        sa.Column("worker", sa.String(64), index=True),
        sa.Column("lease_until", sa.Double),
        sa.Column("claim", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
    )
    op.create_table(
        "events",
        _job(),
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.create_table(
        "newest_events",
        _job(),
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("worker", sa.String(64), primary_key=True),
        sa.Column("data", sa.Text, nullable=False),
        prefixes=["UNLOGGED"] if op.get_bind().dialect.name == "postgresql" else [],
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("about", sa.Text, nullable=False),
    )


def _job() -> sa.Column:
    key = sa.ForeignKey("jobs.id", ondelete="CASCADE")
    return sa.Column("job_id", sa.String(40), key, primary_key=True)
