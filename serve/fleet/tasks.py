"""The pictures that are not finished, as those who ask for them change them."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from dg2_jax.serve import batches, changes
from dg2_jax.serve.fair_queue import NO_LIMIT
from dg2_jax.serve.fleet import news, notices
from dg2_jax.serve.fleet import task_rows as rows
from dg2_jax.serve.records import QUEUED, RUNNING, UNFINISHED, Job
from dg2_jax.serve.rows import jobs_of
from dg2_jax.serve.store import Store
from dg2_jax.serve.tables import JOBS, PAUSED, TASKS

PAUSED_CLIENT = TASKS.c.client.in_(sa.select(PAUSED.c.client))


class Tasks:
    """They, in the database of a store on PostgreSQL."""

    def __init__(self, store: Store):
        self._store = store

    def add(self, job: Job, check_room: Callable[[int, int], None]) -> None:
        """Adds a new job.

        Args:
            job: the job.
            check_room: called with the jobs that wait, in all and of its client; raises what `add`
                then raises.

        Raises:
            IntegrityError: the client has used its idempotency key.
        """
        own = sa.func.count().filter(JOBS.c.client == job.client)
        count = sa.select(sa.func.count(), own).select_from(JOBS).where(JOBS.c.status == QUEUED)
        with self._store.transaction() as connection:
            waiting, of_client = connection.execute(count).one()
            check_room(waiting, of_client)
            changes.add_job(connection, job)
            _insert(connection, job, waiting)
            notices.notify(connection, notices.WORK)

    def adopt(self) -> None:
        """Adds what an earlier release has left unfinished."""
        known = sa.exists().where(TASKS.c.job_id == JOBS.c.id)
        query = sa.select(JOBS).where(JOBS.c.status.in_(UNFINISHED), ~known)
        query = query.order_by(JOBS.c.place.nulls_last(), JOBS.c.id).with_for_update()
        with self._store.transaction() as connection:
            found = jobs_of(connection, connection.execute(query).mappings().all())
            for position, job in enumerate(found):
                waits = JOBS.update().where(JOBS.c.id == job.id)
                connection.execute(waits.values(status=QUEUED, attempts=0))
                _insert(connection, job, position)
            notices.notify(connection, notices.WORK)

    def order(self) -> list[str]:
        """The jobs of which something waits, in the order in which they will be taken."""
        by = (PAUSED_CLIENT, sa.func.min(TASKS.c.turn), TASKS.c.job_id)
        query = sa.select(TASKS.c.job_id).where(rows.FREE)
        query = query.group_by(TASKS.c.job_id, TASKS.c.client).order_by(*by)
        with self._store.transaction() as connection:
            return list(connection.scalars(query))

    def counts(self) -> dict[str, Counter[str]]:
        """How many jobs there are, by status and model."""
        model = sa.func.coalesce(sa.func.max(TASKS.c.model), "")
        each = sa.select(JOBS.c.status, model).select_from(JOBS).join(TASKS).group_by(JOBS.c.id)
        found: dict[str, Counter[str]] = {QUEUED: Counter(), RUNNING: Counter()}
        with self._store.transaction() as connection:
            for status, name in connection.execute(each):
                found[status][name] += 1
        return found

    def arrange(self, client: str, job_ids: Sequence[str]) -> None:
        """Puts a client's waiting jobs in an order that names all of them."""
        with self._store.transaction() as connection:
            locked = rows.lock(connection, TASKS.c.client == client, rows.FREE)
            for job_id in sorted(job_ids):
                here = JOBS.update().where(JOBS.c.id == job_id)
                connection.execute(here.values(place=job_ids.index(job_id)))
            rows.take_new_turns(connection, client, locked)
            notices.notify(connection, notices.WORK)

    def pause(self, client: str, paused: bool) -> None:
        """Holds a client's jobs, or lets them go on, from the end of the queue."""
        with self._store.transaction() as connection:
            locked = rows.lock(connection, TASKS.c.client == client, rows.FREE)
            if paused:
                held = insert(PAUSED).values(client=client).on_conflict_do_nothing()
                connection.execute(held)
            else:
                connection.execute(PAUSED.delete().where(PAUSED.c.client == client))
                rows.take_new_turns(connection, client, locked)
            notices.notify(connection, notices.WORK)

    def end(self, job_id: str, status: str, error: Mapping[str, Any] | None = None) -> bool:
        """Ends a job as failed or cancelled; False if it was finished already."""
        with self._store.transaction() as connection:
            locked = rows.lock_for_end(connection, [job_id])
            return rows.end(connection, locked, job_id, status, error)


def _insert(connection: Connection, job: Job, position: int) -> None:
    turn = connection.execute(sa.select(rows.next_turn(job.client))).scalar_one()
    row = {
        "job_id": job.id,
        "client": job.client,
        "model": getattr(job.request, "model", None),
        "key": hashlib.sha256(repr(batches.key(job)).encode()).hexdigest(),
        "most": NO_LIMIT,
        "shares": batches.shares(job.request),
        "claim": 0,
        "attempts": 0,
    }
    added = [{**row, "index": index, "turn": turn + i} for i, index in enumerate(job.missing)]
    connection.execute(insert(TASKS).on_conflict_do_nothing(), added)
    news.tell(connection, job.id, "queued", {"position": position})
