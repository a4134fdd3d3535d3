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
LEASE_SECONDS = 30  # after which a worker that tells nothing is taken for dead


class UnusableError(RuntimeError):
    """The database cannot be used; says why and what to do."""


def in_folder(folder: Path) -> sa.URL:
    """The URL of the SQLite database in a data folder."""
    return sa.URL.create("sqlite", database=str(folder / "jobs.sqlite3"))


def connect(url: str | sa.URL, lease_seconds: float = LEASE_SECONDS) -> sa.Engine:
    """Connections to a database of the latest version.

    Args:
        url: as SQLAlchemy takes it: sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME.
        lease_seconds: of workers, see `with_time_outs`.

    Raises:
        UnusableError: it is damaged, of a later release, or cannot be reached.
        OperationalError: a SQLite file cannot be written.
    """
    url = sa.make_url(url)
    shown = url.render_as_string(hide_password=True)
    is_server = url.get_backend_name() == "postgresql"
    url = with_time_outs(url, lease_seconds) if is_server else url
    engine = sa.create_engine(url, pool_pre_ping=is_server)
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


def with_time_outs(url: sa.URL, lease_seconds: float) -> sa.URL:
    """The URL of connections to PostgreSQL that none of them keeps from going on for a lease.

    A process that is stopped in a transaction loses it, and the locks, before its leases lapse; one
    that waits for a lock gives up later than that, so that it need not. A server or a client that
    has gone is noticed within a lease. What the URL says itself holds.
    """
    idle = max(1.0, lease_seconds / 4)
    lock, statement = (max(5.0, lease_seconds / share) for share in (3, 2))
    limits = {
        "idle_in_transaction_session_timeout": idle,
        "lock_timeout": lock,
        "statement_timeout": statement,
    }
    said = " ".join(f"-c {name}={1000 * seconds:.0f}" for name, seconds in limits.items())
    own: dict[str, Any] = dict(url.query)
    own["options"] = f"{said} {own.get('options', '')}".strip()
    usual = {
        "connect_timeout": f"{lock:.0f}",
        "keepalives_idle": f"{idle:.0f}",
        "keepalives_interval": f"{idle:.0f}",
        "keepalives_count": "2",
        "tcp_user_timeout": f"{1000 * statement:.0f}",
    }
    return url.set(query={**usual, **own})


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
