"""The steps from one version of the database to the next, and the call that takes them.

A change of `serve/tables.py` needs a file in `versions/`, made after the last one's example; a
test compares the tables that the steps make with those of `serve/tables.py`, on both databases.
"""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

LATEST = "0004"  # the version that `serve/tables.py` describes
_LOCK = 0x646732  # of PostgreSQL: one process at a time upgrades


class NewerError(RuntimeError):
    """The database was written by a newer release."""


def upgrade(engine: sa.Engine) -> None:
    """Brings a database, empty or of any earlier release, to the latest version.

    All steps are one transaction, so that a kill leaves the old version.

    Raises:
        NewerError: the database is of a later version than this code knows.
    """
    with engine.connect() as connection:
        if version(connection) == LATEST:
            return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            for limit in ("statement_timeout", "lock_timeout"):  # a step takes as long as it takes
                connection.exec_driver_sql(f"SET LOCAL {limit} = 0")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        else:  # pysqlite begins a transaction at the first change, which a step may not be
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        before = version(connection)
        if before != LATEST:
            _run(connection, before)


def version(connection: Connection) -> str | None:
    """The version of a database; None where it has no tables of ours."""
    inspector = sa.inspect(connection)
    tables = inspector.get_table_names()
    if "alembic_version" in tables:
        return connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    if "jobs" not in tables:
        return None
    columns = {column["name"] for column in inspector.get_columns("jobs")}
    return "0002" if "notes" in columns else "0001"


def _run(connection: Connection, before: str | None) -> None:
    from alembic import command  # seldom needed, and slow to import
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if before is not None:
        if before not in known:
            raise NewerError(f"it has version {before}, this release knows {LATEST} and older")
        command.stamp(config, before)
    command.upgrade(config, LATEST)
