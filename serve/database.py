"""The database that holds jobs: SQLite in the data folder, or PostgreSQL for several processes.

Opening one brings it to the latest version (`dg2_jax.serve.migrations`), and says in words what is
wrong with one that cannot be used.
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, NoSuchModuleError, OperationalError

from dg2_jax.serve import migrations

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=10000",
    "foreign_keys=ON",
    "wal_autocheckpoint=64",  # pages of 4 kB: the log takes a quarter of a megabyte, not four
)


class UnusableError(RuntimeError):
    """The database cannot be used; says why and what to do."""


def in_folder(folder: Path) -> sa.URL:
    """The URL of the SQLite database in a data folder."""
    return sa.URL.create("sqlite", database=str(folder / "jobs.sqlite3"))


def connect(url: str | sa.URL) -> sa.Engine:
    """Connections to a database of the latest version.

    Args:
        url: as SQLAlchemy takes it: sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME.

    Raises:
        UnusableError: it is damaged, of a later release, or cannot be reached.
        OperationalError: a SQLite file cannot be written.
    """
    url = sa.make_url(url)
    engine = sa.create_engine(url, pool_pre_ping=url.get_backend_name() != "sqlite")
    shown = url.render_as_string(hide_password=True)
    try:
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _set_pragmas)
            _check(engine, str(url.database))
        migrations.upgrade(engine)
    except migrations.NewerError as error:
        raise UnusableError(f"{shown}: {error}") from error
    except NoSuchModuleError as error:
        raise UnusableError(f"{shown}: no such kind of database") from error
    except DatabaseError as error:
        if engine.dialect.name == "sqlite":
            if isinstance(error, OperationalError):
                raise
            raise _damaged(str(url.database), str(error.orig)) from error
        first = str(error.orig).strip().splitlines()[0]
        raise UnusableError(f"{shown} cannot be used: {first}") from error
    return engine


def _set_pragmas(connection: Any, _: Any) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _check(engine: sa.Engine, file: str) -> None:
    with engine.connect() as connection:
        found = connection.scalar(sa.text("PRAGMA quick_check(1)"))
    if found != "ok":
        raise _damaged(file, str(found))


def _damaged(file: str, reason: str) -> UnusableError:
    first = reason.strip().splitlines()[0]
    return UnusableError(
        f"{file} is damaged ({first}): move it away to begin with no jobs; the files of the "
        "pictures stay where they are"
    )
