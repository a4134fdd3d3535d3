"""The database's tables. How an older database becomes one of these is in `serve/migrations`."""

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
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("finished_at", sa.Double),
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
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("favourite", sa.Boolean),
    sa.Column("deleted_at", sa.Double),  # until it is erased
    sa.UniqueConstraint("job_id", "index"),
)
PAUSED = sa.Table("paused_clients", metadata, sa.Column("client", sa.String(64), primary_key=True))
# What processes that share a database say to each other; with SQLite these are empty.
TASKS = sa.Table(  # the pictures that are not finished
    "tasks",
    metadata,
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("client", sa.String(64), nullable=False, index=True),
    sa.Column("turn", sa.BigInteger, nullable=False, index=True),  # lower ones come first
    sa.Column("model", sa.String(200)),
    sa.Column("key", sa.String(64), nullable=False),  # those of equal keys may be one batch
    sa.Column("most", sa.Integer, nullable=False),  # pictures of a batch
    sa.Column("shares", sa.Boolean, nullable=False),
    sa.Column("worker", sa.String(64), index=True),  # who computes it
    sa.Column("lease_until", sa.Double),  # by the database's clock
    sa.Column("claim", sa.BigInteger, nullable=False),  # how often it was taken, for whatever end
    sa.Column("attempts", sa.Integer, nullable=False),  # those that ended without being given back
)
EVENTS = sa.Table(  # that last, see `serve/fleet/news.py`
    "events",
    metadata,
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("name", sa.String(16), nullable=False),
    sa.Column("data", sa.Text, nullable=False),
)
NEWEST = sa.Table(  # events that replace each other, of every worker the newest; lost in a crash
    "newest_events",
    metadata,
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("worker", sa.String(64), primary_key=True),
    sa.Column("data", sa.Text, nullable=False),
)
WORKERS = sa.Table(
    "workers",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("seen_at", sa.Double, nullable=False),  # by the database's clock
    sa.Column("about", sa.Text, nullable=False),
)
