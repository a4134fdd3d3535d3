"""Jobs and pictures in a database: what the server knows after a crash.

SQLAlchemy Core over SQLite (WAL, synchronous=FULL); nothing here is SQLite's own but the pragmas,
so that another database can take its place. Every method is one transaction and safe in any thread.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from serve.records import DONE, FAILED, QUEUED, RUNNING, UNFINISHED, Image, Job
from serve.schemas import stored_request
from serve.tables import IMAGES, JOBS, create

MAX_ATTEMPTS = 2  # a job that the server died with twice is not tried again
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=10000",
    "foreign_keys=ON",
    "wal_autocheckpoint=64",  # pages of 4 kB: the log takes a quarter of a megabyte, not four
)


class Store:
    """All that is kept."""

    def __init__(self, url: str):
        self._engine = sa.create_engine(url)
        self._writing = threading.Lock()  # SQLite has one writer; waiting here is fair and quick
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _set_pragmas)
        create(self._engine)

    @classmethod
    def at(cls, folder: Path) -> "Store":
        """The store in a folder, which is made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{folder / 'jobs.sqlite3'}")

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._writing, self._engine.begin() as connection:
            yield connection

    def add(self, job: Job) -> None:
        """Stores a new job."""
        values = {k: v for k, v in vars(job).items() if k != "images"}
        values["request"] = json.dumps(job.request.fields())
        values["error"] = json.dumps(job.error) if job.error else None
        values["notes"] = json.dumps(job.notes)
        with self._write() as connection:
            connection.execute(JOBS.insert().values(values))

    def by_key(self, client: str, idempotency_key: str | None) -> Job | None:
        """The job that a client sent with an idempotency key."""
        if idempotency_key is None:
            return None
        query = sa.select(JOBS).where(
            JOBS.c.client == client, JOBS.c.idempotency_key == idempotency_key
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
            return next(iter(_with_images(connection, rows)), None)

    def get(self, job_id: str) -> Job | None:
        """A job, None if there is none of that id."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(JOBS).where(JOBS.c.id == job_id)).mappings()
            return next(iter(_with_images(connection, rows.all())), None)

    def jobs(
        self,
        limit: int,
        before: str | None = None,
        text: str | None = None,
        **equals: str | Sequence[str] | None,
    ) -> list[Job]:
        """Jobs, newest first: older than `before`, with these words, of equal columns."""
        query = _page(JOBS, limit, before, equals)
        if text:
            query = query.where(_contains(JOBS.c.text, text))
        with self._engine.connect() as connection:
            return _with_images(connection, connection.execute(query).mappings().all())

    def start(self, job_ids: Sequence[str]) -> None:
        """Jobs are about to be computed; counts an attempt, so that a deadly job is known."""
        now = sa.func.coalesce(JOBS.c.started_at, time.time())
        with self._write() as connection:
            connection.execute(
                JOBS.update()
                .where(JOBS.c.id.in_(job_ids), JOBS.c.status.in_(UNFINISHED))
                .values(status=RUNNING, started_at=now, attempts=JOBS.c.attempts + 1)
            )

    def put_back(self, job_ids: Sequence[str]) -> None:
        """Jobs that were started wait again, through no fault of theirs."""
        with self._write() as connection:
            connection.execute(
                JOBS.update()
                .where(JOBS.c.id.in_(job_ids), JOBS.c.status == RUNNING)
                .values(
                    status=QUEUED,
                    # Where a picture was stored meanwhile, no attempt counts any more.
                    attempts=sa.case((JOBS.c.attempts > 0, JOBS.c.attempts - 1), else_=0),
                )
            )

    def add_images(
        self, images: Sequence[Image], notes: Mapping[str, list[str]] | None = None
    ) -> list[str]:
        """Stores finished pictures, all or none; returns the ids of the jobs that this completes.

        A picture of a job that is finished (cancelled meanwhile) is left out, and one that is there
        already is not stored twice. `notes` are those of the jobs, by their ids.
        """
        job_ids = {image.job_id for image in images}
        with self._write() as connection:
            query = sa.select(JOBS.c.id, JOBS.c.num_images).where(
                JOBS.c.id.in_(job_ids), JOBS.c.status.in_(UNFINISHED)
            )
            totals = {row.id: row.num_images for row in connection.execute(query)}
            known = set(
                connection.scalars(sa.select(IMAGES.c.id).where(IMAGES.c.job_id.in_(totals)))
            )
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

    def finish(self, job_id: str, status: str, error: Mapping[str, Any] | None = None) -> bool:
        """Ends a job as failed or cancelled; False if it was finished already."""
        with self._write() as connection:
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

    def recover(self) -> list[Job]:
        """After a start: jobs to be computed, oldest first; those tried too often have failed."""
        unfinished = JOBS.c.status.in_(UNFINISHED)
        error = {
            "type": "about:blank",
            "title": "Internal Server Error",
            "status": 500,
            "detail": f"the server stopped {MAX_ATTEMPTS} times while it computed this job",
        }
        with self._write() as connection:
            connection.execute(
                JOBS.update()
                .where(unfinished, JOBS.c.attempts >= MAX_ATTEMPTS)
                .values(status=FAILED, finished_at=time.time(), error=json.dumps(error))
            )
            connection.execute(JOBS.update().where(unfinished).values(status=QUEUED))
        return self.unfinished()

    def unfinished(self) -> list[Job]:
        """The jobs to be computed, oldest first."""
        query = sa.select(JOBS).where(JOBS.c.status.in_(UNFINISHED)).order_by(JOBS.c.id)
        with self._engine.connect() as connection:
            return _with_images(connection, connection.execute(query).mappings().all())

    def forget(self, job_id: str) -> None:
        """Deletes a finished job and the rows of its pictures."""
        with self._write() as connection:
            connection.execute(IMAGES.delete().where(IMAGES.c.job_id == job_id))
            connection.execute(JOBS.delete().where(JOBS.c.id == job_id))

    def image(self, image_id: str) -> Image | None:
        """A picture's row, None if there is none of that id."""
        with self._engine.connect() as connection:
            query = sa.select(IMAGES).where(IMAGES.c.id == image_id)
            row = connection.execute(query).mappings().first()
        return _image(row) if row is not None else None

    def images(
        self,
        limit: int,
        before: str | None = None,
        text: str | None = None,
        kind: str | None = None,
    ) -> list[Image]:
        """Pictures, newest first."""
        query = _page(IMAGES, limit, before, {"kind": kind})
        if text:
            query = query.where(_contains(IMAGES.c.prompt, text))
        with self._engine.connect() as connection:
            return [_image(row) for row in connection.execute(query).mappings()]

    def delete_image(self, image_id: str) -> bool:
        """Deletes a picture's row."""
        with self._write() as connection:
            query = IMAGES.delete().where(IMAGES.c.id == image_id)
            return connection.execute(query).rowcount == 1


def _set_pragmas(connection: Any, _: Any) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _page(
    table: sa.Table,
    limit: int,
    before: str | None,
    equals: Mapping[str, str | Sequence[str] | None],
) -> sa.Select:
    query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.c.id < before)
    for name, value in equals.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    return query


def _contains(column: sa.Column, text: str) -> sa.ColumnElement[bool]:
    return sa.and_(*(column.icontains(word, autoescape=True) for word in text.split()[:8]))


def _with_images(connection: Connection, rows: Sequence[Any]) -> list[Job]:
    ids = [row["id"] for row in rows]
    query = sa.select(IMAGES).where(IMAGES.c.job_id.in_(ids)).order_by(IMAGES.c.index)
    of_job: dict[str, list[Image]] = {job_id: [] for job_id in ids}
    for row in connection.execute(query).mappings() if ids else ():
        of_job[row["job_id"]].append(_image(row))
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


def _image(row: Any) -> Image:
    return Image(**{**row, "metadata": json.loads(row["metadata"])})
