"""The database's tables, and how older ones get the columns they lack."""

import sqlalchemy as sa

metadata = sa.MetaData()
JOBS = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("client", sa.String(64), nullable=False),
    sa.Column("idempotency_key", sa.String(128)),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("matched_from", sa.Text),
    sa.Column("num_images", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("error", sa.Text),
    sa.Column("notes", sa.Text),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("finished_at", sa.Float),
    sa.Column("place", sa.Integer),  # among its client's, once the client has ordered them
    sa.UniqueConstraint("client", "idempotency_key"),
)
IMAGES = sa.Table(
    "images",
    metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("index", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("seed", sa.BigInteger),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("negative_prompt", sa.Text, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("metadata", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("favourite", sa.Boolean),
    sa.Column("deleted_at", sa.Float),  # until it is erased
    sa.UniqueConstraint("job_id", "index"),
)
PAUSED = sa.Table("paused_clients", metadata, sa.Column("client", sa.String(64), primary_key=True))


def create(engine: sa.Engine) -> None:
    """Makes the tables that are missing, and adds to older ones the columns they lack."""
    metadata.create_all(engine)
    for table in metadata.sorted_tables:
        there = {column["name"] for column in sa.inspect(engine).get_columns(table.name)}
        missing = [column for column in table.columns if column.name not in there]
        with engine.begin() as connection:
            for column in missing:
                kind = column.type.compile(engine.dialect)
                connection.execute(
                    sa.text(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}")
                )
