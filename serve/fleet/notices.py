"""What processes call out to each other through the database: LISTEN and NOTIFY.

A notice says only where to look: what is to be known is in the tables, so that a lost one costs
time and nothing else.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import sqlalchemy as sa
import structlog
from psycopg import sql
from sqlalchemy.engine import Connection

log = structlog.get_logger()

WORK = "dg2_work"  # there may be something to take
MOVED = "dg2_moved"  # what waits has come nearer
EVENTS = "dg2_events"  # a job has news
ENDED = "dg2_ended"  # a job is finished: nobody should go on with it
WATCHED = "dg2_watched"  # somebody reads a job's news

_RETRY_SECONDS = 0.5
_STOP_SECONDS = 5.0


def notify(connection: Connection, channel: str, job_id: str = "") -> None:
    """Calls out when the transaction is committed."""
    connection.execute(sa.select(sa.func.pg_notify(channel, job_id)))


class Listener(threading.Thread):
    """Hears notices in a thread of its own, and does chores between them.

    Where the connection is lost, it is made again; `missed` is called each time it is new.
    """

    def __init__(
        self,
        url: sa.URL,
        heard: Mapping[str, Callable[[str], None]],
        missed: Callable[[], None],
        chores: Callable[[], None],
        seconds: float,
    ):
        """Does not start it.

        Args:
            url: of the database.
            heard: by channel, what is called with a notice's job id.
            missed: called when notices may have been missed.
            chores: called at least every `seconds`; may raise psycopg's and SQLAlchemy's errors.
            seconds: the longest wait.
        """
        super().__init__(name="listener", daemon=True)
        address = url.translate_connect_args(username="user", database="dbname")
        self._address: dict[str, Any] = address | dict(url.query)
        self._heard, self._missed, self._chores = heard, missed, chores
        self._seconds = seconds
        self._over = threading.Event()

    def stop(self) -> None:
        """Ends it, and waits for that."""
        self._over.set()
        if self.is_alive():
            self.join(_STOP_SECONDS)

    def run(self) -> None:
        """See the class."""
        while not self._over.is_set():
            try:
                with psycopg.connect(
                    **self._address, autocommit=True, application_name="dg2"
                ) as connection:
                    for channel in self._heard:
                        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                    self._missed()
                    self._listen(connection)
            except (psycopg.OperationalError, sa.exc.DBAPIError) as error:
                log.warning("the database is away", error=str(error)[:200])
                self._over.wait(_RETRY_SECONDS)
            except Exception:
                log.exception("a chore failed")
                self._over.wait(_RETRY_SECONDS)

    def _listen(self, connection: psycopg.Connection) -> None:
        while not self._over.is_set():
            for notice in connection.notifies(timeout=self._seconds, stop_after=1):
                self._heard[notice.channel](notice.payload)
            self._chores()
