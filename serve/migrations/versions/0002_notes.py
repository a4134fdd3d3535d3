"""What was done otherwise than asked."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the column."""
    op.add_column("jobs", sa.Column("notes", sa.Text))
