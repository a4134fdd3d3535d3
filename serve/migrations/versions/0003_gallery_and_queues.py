"""Favourites, deletions with a way back, and clients' own order and pauses."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds columns and a table."""
    op.add_column("jobs", sa.Column("place", sa.Integer))
    op.add_column("images", sa.Column("favourite", sa.Boolean))
    op.add_column("images", sa.Column("deleted_at", sa.Double))
    op.create_table("paused_clients", sa.Column("client", sa.String(64), primary_key=True))
