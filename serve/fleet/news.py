"""The events of jobs, as all processes see them.

Those that last have ids, about nanoseconds since 1970 by the database's clock, at least `STEP`
apart within a job: room for ids of what a process tells its readers in between. Of the events that
replace each other the newest of every worker is kept, without an id.
"""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from dg2_jax.serve.events import Event
from dg2_jax.serve.fleet import notices
from dg2_jax.serve.records import UNFINISHED
from dg2_jax.serve.tables import EVENTS, JOBS, NEWEST

STEP = 1_000_000
# Seconds since 1970, the same for all processes.
NOW = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)


def tell(connection: Connection, job_id: str, name: str, data: dict[str, Any]) -> None:
    """Adds an event that lasts. The caller holds the lock of the job's row."""
    following = sa.select(sa.func.coalesce(sa.func.max(EVENTS.c.id), 0) + STEP)
    following = following.where(EVENTS.c.job_id == job_id)
    now = _id_at(NOW)
    event_id = sa.func.greatest(following.scalar_subquery(), now)
    event = {"job_id": job_id, "id": event_id, "name": name}
    connection.execute(EVENTS.insert().values(**event, data=json.dumps(data)))
    notices.notify(connection, notices.EVENTS, job_id)


def show(connection: Connection, worker: str, job_id: str, name: str, data: dict[str, Any]) -> None:
    """Replaces a worker's last event of a name."""
    row = {"job_id": job_id, "name": name, "worker": worker, "data": json.dumps(data)}
    added = insert(NEWEST).values(row)
    keys = [NEWEST.c.job_id, NEWEST.c.name, NEWEST.c.worker]
    connection.execute(added.on_conflict_do_update(index_elements=keys, set_={"data": row["data"]}))
    notices.notify(connection, notices.EVENTS, job_id)


def lasting(connection: Connection, job_id: str, after: int = 0) -> list[Event]:
    """The events that last, of ids above `after`."""
    query = sa.select(EVENTS).where(EVENTS.c.job_id == job_id, EVENTS.c.id > after)
    rows = connection.execute(query.order_by(EVENTS.c.id))
    return [Event(row.id, row.name, json.loads(row.data)) for row in rows]


def newest(connection: Connection, job_id: str) -> dict[str, dict[str, Any]]:
    """The events that replace each other, by name: what all workers of a job say, as one."""
    query = sa.select(NEWEST).where(NEWEST.c.job_id == job_id).order_by(NEWEST.c.worker)
    said: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(query):
        said.setdefault(row.name, []).append(json.loads(row.data))
    return {name: _JOINED.get(name, _last)(views) for name, views in said.items()}


def _progress(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the pictures under way, the first tells the step; all count for the fraction."""
    num_images = views[0]["num_images"]
    done = max(view["images_done"] for view in views)
    running = sum(view["fraction"] * num_images - view["images_done"] for view in views)
    first = max(views, key=lambda view: view["step"] / max(1, view["num_steps"]))
    fraction = round(min(1.0, (done + running) / num_images), 4)
    return {**first, "images_done": done, "fraction": fraction}


def _preview(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    images = sorted((i for view in views for i in view["images"]), key=lambda i: i["index"])
    return {**views[-1], "images": images}


def _id_at(seconds: sa.ColumnElement[float]) -> sa.ColumnElement[int]:
    return sa.cast(seconds * 1000, sa.BigInteger) * STEP


def _last(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return views[-1]


_JOINED = {"progress": _progress, "preview": _preview}


def forget(connection: Connection, seconds: float) -> None:
    """Deletes the events of jobs that have been finished for some time."""
    finished = sa.select(JOBS.c.id).where(JOBS.c.status.not_in(UNFINISHED))
    old = EVENTS.c.id < _id_at(NOW - seconds)
    connection.execute(EVENTS.delete().where(old, EVENTS.c.job_id.in_(finished)))
