"""Between the database's rows and the records: pages of rows, and the jobs and pictures in them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dg2_jax.serve.records import Image, Job
from dg2_jax.serve.schemas import stored_request
from dg2_jax.serve.tables import IMAGES, JOBS

Sort = Literal["newest", "oldest", "prompt"]
# The orders of pictures: the columns, and whether they fall. The id makes each unique.
SORTS: dict[Sort, tuple[tuple[sa.Column, ...], bool]] = {
    "newest": ((IMAGES.c.id,), True),
    "oldest": ((IMAGES.c.id,), False),
    "prompt": ((IMAGES.c.prompt, IMAGES.c.id), False),
}
NOT_DELETED = IMAGES.c.deleted_at.is_(None)


def page_of_jobs(
    limit: int, before: str | None, equals: Mapping[str, str | Sequence[str] | None]
) -> sa.Select:
    """Jobs of equal columns, newest first, after the job of the id `before`."""
    query = sa.select(JOBS).order_by(JOBS.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(JOBS.c.id < before)
    for name, value in equals.items():
        if value is not None:
            query = query.where(JOBS.c[name] == value)
    return query


def page_of_images(limit: int, before: str | None, sort: Sort) -> sa.Select:
    """Pictures in one of the `SORTS`, after the picture of the id `before`."""
    columns, falls = SORTS[sort]
    query = sa.select(IMAGES).where(NOT_DELETED).limit(limit)
    query = query.order_by(*(column.desc() if falls else column for column in columns))
    if before is not None:
        last = sa.tuple_(*(_value_at(column, before) for column in columns))
        here = sa.tuple_(*columns)
        query = query.where(here < last if falls else here > last)
    return query


def _value_at(column: sa.Column, image_id: str) -> Any:
    """What a picture has in a column; one deleted meanwhile still tells its place."""
    if column is IMAGES.c.id:
        return image_id
    return sa.select(column).where(IMAGES.c.id == image_id).scalar_subquery()


def contains(column: sa.Column, text: str) -> sa.ColumnElement[bool]:
    """Whether a column has all words of a text."""
    return sa.and_(*(column.icontains(word, autoescape=True) for word in text.split()[:8]))


def jobs_of(connection: Connection, rows: Sequence[Any]) -> list[Job]:
    """Jobs with their pictures."""
    ids = [row["id"] for row in rows]
    theirs = IMAGES.c.job_id.in_(ids)
    query = sa.select(IMAGES).where(theirs, NOT_DELETED).order_by(IMAGES.c.index)
    of_job: dict[str, list[Image]] = {job_id: [] for job_id in ids}
    for row in connection.execute(query).mappings() if ids else ():
        of_job[row["job_id"]].append(image_of(row))
    return [
        Job(
            **{
                **row,
                "request": stored_request(row["kind"], json.loads(row["request"])),
                "error": json.loads(row["error"]) if row["error"] else None,
                "notes": json.loads(row["notes"]) if row["notes"] else [],
                "images": of_job[row["id"]],
            }
        )
        for row in rows
    ]


def image_of(row: Any) -> Image:
    """A picture."""
    fields = {name: value for name, value in row.items() if name != "deleted_at"}
    decoded = {"metadata": json.loads(row["metadata"]), "favourite": bool(row["favourite"])}
    return Image(**{**fields, **decoded})
