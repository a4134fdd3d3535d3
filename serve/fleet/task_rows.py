"""The rows of pictures that are not finished, as `tasks` and `claims` change them.

Every transaction locks rows of tasks first, then of jobs, each in the order of their keys, so that
none waits for another in a circle.

Clients take turns, picture by picture: a picture's `turn` is one above that of its client's last
one, but not below those under way. So whoever comes later waits for about one picture of each other
client, however many those have.
"""

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dg2_jax.serve import changes
from dg2_jax.serve.fleet import news, notices
from dg2_jax.serve.rows import jobs_of
from dg2_jax.serve.tables import JOBS, NEWEST, TASKS
from dg2_jax.serve.views import job_view

KEY = (TASKS.c.job_id, TASKS.c.index)
ORDER = (TASKS.c.turn, *KEY)
FREE = TASKS.c.worker.is_(None)


def lock(connection: Connection, *where: sa.ColumnElement[bool]) -> set[tuple[str, int]]:
    """Locks rows; returns their keys."""
    query = sa.select(*KEY).where(*where).order_by(*KEY).with_for_update()
    return {(job_id, index) for job_id, index in connection.execute(query)}


def next_turn(client: str, *where: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    """The turn of a picture that a client adds after those of its own that `where` says."""
    under_way = sa.select(sa.func.max(TASKS.c.turn)).where(~FREE)
    waiting = sa.select(sa.func.min(TASKS.c.turn))
    own = sa.select(sa.func.max(TASKS.c.turn) + 1).where(TASKS.c.client == client, *where)
    front = sa.func.coalesce(under_way.scalar_subquery(), waiting.scalar_subquery(), 0)
    return sa.func.greatest(front, own.scalar_subquery())  # NULL, where there is none, is ignored


def take_new_turns(
    connection: Connection, client: str, locked: Collection[tuple[str, int]]
) -> None:
    """Gives those of some locked rows turns from now on that a client has waiting, in its order.

    Others that wait again since the rows were locked keep theirs: to change them is to wait for
    who has them, perhaps in a circle.
    """
    by = (JOBS.c.place.nulls_last(), *KEY)
    number = sa.func.row_number().over(order_by=by).label("number")
    query = sa.select(*KEY, number).join(JOBS, JOBS.c.id == TASKS.c.job_id)
    ours = sa.tuple_(*KEY).in_(locked)
    waiting = query.where(TASKS.c.client == client, FREE, ours).subquery()
    first = connection.execute(sa.select(next_turn(client, ~FREE))).scalar_one()
    here = sa.and_(TASKS.c.job_id == waiting.c.job_id, TASKS.c.index == waiting.c.index)
    connection.execute(TASKS.update().where(here).values(turn=first - 1 + waiting.c.number))


def lock_for_end(connection: Connection, job_ids: Collection[str]) -> set[tuple[str, int]]:
    """Locks what `end` changes; returns the keys."""
    clients = sa.select(JOBS.c.client).where(JOBS.c.id.in_(job_ids))
    return lock(connection, TASKS.c.job_id.in_(job_ids) | (FREE & TASKS.c.client.in_(clients)))


def end(
    connection: Connection,
    locked: Collection[tuple[str, int]],
    job_id: str,
    status: str,
    error: Mapping[str, Any] | None = None,
) -> bool:
    """Ends a job as failed or cancelled; False if it was finished already.

    Args:
        connection: in whose transaction.
        locked: what `lock_for_end` gave.
        job_id: whose.
        status: FAILED or CANCELLED.
        error: why.
    """
    if not changes.finish_job(connection, job_id, status, error):
        return False
    connection.execute(TASKS.delete().where(TASKS.c.job_id == job_id))
    tell_end(connection, job_id)
    client = sa.select(JOBS.c.client).where(JOBS.c.id == job_id)
    take_new_turns(connection, connection.execute(client).scalar_one(), locked)
    return True


def tell_end(connection: Connection, job_id: str) -> None:
    """Tells that a job is finished."""
    rows = connection.execute(sa.select(JOBS).where(JOBS.c.id == job_id)).mappings().all()
    (job,) = jobs_of(connection, rows)
    connection.execute(NEWEST.delete().where(NEWEST.c.job_id == job_id))
    news.tell(connection, job_id, job.status, job_view(job))
    for channel in (notices.ENDED, notices.MOVED):
        notices.notify(connection, channel, job_id)
