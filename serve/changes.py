"""What changes jobs and pictures, inside a transaction of the caller's."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dg2_jax.serve.records import DONE, UNFINISHED, Image, Job
from dg2_jax.serve.tables import IMAGES, JOBS


def add_job(connection: Connection, job: Job) -> None:
    """Adds a new job."""
    values = {k: v for k, v in vars(job).items() if k != "images"}
    values["request"] = json.dumps(job.request.fields())
    values["error"] = json.dumps(job.error) if job.error else None
    values["notes"] = json.dumps(job.notes)
    connection.execute(JOBS.insert().values(values))


def add_images(
    connection: Connection, images: Sequence[Image], notes: Mapping[str, list[str]] | None = None
) -> list[str]:
    """Adds finished pictures; returns the ids of the jobs that this completes.

    A picture of a job that is finished (cancelled meanwhile) is left out, and one that is there
    already is not stored twice. `notes` are those of the jobs, by their ids.
    """
    job_ids = {image.job_id for image in images}
    query = (
        sa.select(JOBS.c.id, JOBS.c.num_images)
        .where(JOBS.c.id.in_(job_ids), JOBS.c.status.in_(UNFINISHED))
        .order_by(JOBS.c.id)
        .with_for_update()
    )
    totals = {row.id: row.num_images for row in connection.execute(query)}
    known = set(connection.scalars(sa.select(IMAGES.c.id).where(IMAGES.c.job_id.in_(totals))))
    rows = [
        {**vars(image), "metadata": json.dumps(image.metadata)}
        for image in images
        if image.job_id in totals and image.id not in known
    ]
    if rows:
        connection.execute(IMAGES.insert(), rows)
    connection.execute(JOBS.update().where(JOBS.c.id.in_(totals)).values(attempts=0))
    for job_id in totals:
        if notes and notes.get(job_id):
            told = json.dumps(notes[job_id])
            connection.execute(JOBS.update().where(JOBS.c.id == job_id).values(notes=told))
    counts = connection.execute(
        sa.select(IMAGES.c.job_id, sa.func.count())
        .where(IMAGES.c.job_id.in_(totals))
        .group_by(IMAGES.c.job_id)
    )
    complete = [job_id for job_id, count in counts if count == totals[job_id]]
    if complete:
        connection.execute(
            JOBS.update()
            .where(JOBS.c.id.in_(complete))
            .values(status=DONE, finished_at=time.time())
        )
    return complete


def finish_job(
    connection: Connection, job_id: str, status: str, error: Mapping[str, Any] | None = None
) -> bool:
    """Ends a job as failed or cancelled; False if it was finished already."""
    updated = connection.execute(
        JOBS.update()
        .where(JOBS.c.id == job_id, JOBS.c.status.in_(UNFINISHED))
        .values(
            status=status,
            finished_at=time.time(),
            error=json.dumps(error) if error else None,
        )
    )
    return updated.rowcount == 1
