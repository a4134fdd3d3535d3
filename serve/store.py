"""Jobs and pictures in a database: what the server knows after a crash.

SQLAlchemy Core over SQLite or PostgreSQL, see `dg2_jax.serve.database`. Every method is one
transaction and safe in any thread, and on PostgreSQL in any process.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dg2_jax.serve import changes, database, problems
from dg2_jax.serve.records import FAILED, QUEUED, RUNNING, UNFINISHED, Image, Job
from dg2_jax.serve.rows import (
    NOT_DELETED,
    Sort,
    contains,
    image_of,
    jobs_of,
    page_of_images,
    page_of_jobs,
)
from dg2_jax.serve.tables import IMAGES, JOBS, PAUSED

MAX_ATTEMPTS = 2  # a job that the server died with twice is not tried again
_DEADLY = f"the server stopped {MAX_ATTEMPTS} times while it computed this job"
DEADLY = problems.problem(500, _DEADLY)


class Store:
    """All that is kept."""

    def __init__(self, url: str | sa.URL, lease_seconds: float = database.LEASE_SECONDS):
        """Opens it; see `database.connect`."""
        self._engine = database.connect(url, lease_seconds)
        # SQLite has one writer; waiting here is fair and quick.
        one_writer = self._engine.dialect.name == "sqlite"
        self._writing = threading.Lock() if one_writer else nullcontext()

    @classmethod
    def at(cls, folder: Path) -> "Store":
        """The store in a folder, which is made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(database.in_folder(folder))

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    @property
    def url(self) -> sa.URL:
        """Of the database."""
        return self._engine.url

    @property
    def is_shared(self) -> bool:
        """Whether several processes may use it."""
        return self._engine.dialect.name != "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection whose changes are all kept, or none."""
        with self._writing, self._engine.begin() as connection:
            yield connection

    def add(self, job: Job) -> None:
        """Stores a new job."""
        with self.transaction() as connection:
            changes.add_job(connection, job)

    def by_key(self, client: str, idempotency_key: str | None) -> Job | None:
        """The job that a client sent with an idempotency key."""
        if idempotency_key is None:
            return None
        query = sa.select(JOBS).where(
            JOBS.c.client == client, JOBS.c.idempotency_key == idempotency_key
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
            return next(iter(jobs_of(connection, rows)), None)

    def get(self, job_id: str) -> Job | None:
        """A job, None if there is none of that id."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(JOBS).where(JOBS.c.id == job_id)).mappings()
            return next(iter(jobs_of(connection, rows.all())), None)

    def jobs_by_id(self, job_ids: Sequence[str]) -> list[Job]:
        """Those of some jobs that are there, in the order of the ids."""
        query = sa.select(JOBS).where(JOBS.c.id.in_(job_ids))
        with self._engine.connect() as connection:
            found = jobs_of(connection, connection.execute(query).mappings().all())
        return sorted(found, key=lambda job: job_ids.index(job.id))

    def jobs(
        self,
        limit: int,
        before: str | None = None,
        text: str | None = None,
        **equals: str | Sequence[str] | None,
    ) -> list[Job]:
        """Jobs, newest first: older than `before`, with these words, of equal columns."""
        query = page_of_jobs(limit, before, equals)
        if text:
            query = query.where(contains(JOBS.c.text, text))
        with self._engine.connect() as connection:
            return jobs_of(connection, connection.execute(query).mappings().all())

    def start(self, job_ids: Sequence[str]) -> None:
        """Jobs are about to be computed; counts an attempt, so that a deadly job is known."""
        now = sa.func.coalesce(JOBS.c.started_at, time.time())
        with self.transaction() as connection:
            connection.execute(
                JOBS.update()
                .where(JOBS.c.id.in_(job_ids), JOBS.c.status.in_(UNFINISHED))
                .values(status=RUNNING, started_at=now, attempts=JOBS.c.attempts + 1)
            )

    def put_back(self, job_ids: Sequence[str]) -> None:
        """Jobs that were started wait again, through no fault of theirs."""
        with self.transaction() as connection:
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
        """Stores finished pictures, all or none; see `changes.add_images`."""
        with self.transaction() as connection:
            return changes.add_images(connection, images, notes)

    def finish(self, job_id: str, status: str, error: Mapping[str, Any] | None = None) -> bool:
        """Ends a job as failed or cancelled; False if it was finished already."""
        with self.transaction() as connection:
            return changes.finish_job(connection, job_id, status, error)

    def recover(self) -> list[Job]:
        """After a start: jobs to be computed, oldest first; those tried too often have failed."""
        unfinished = JOBS.c.status.in_(UNFINISHED)
        with self.transaction() as connection:
            connection.execute(
                JOBS.update()
                .where(unfinished, JOBS.c.attempts >= MAX_ATTEMPTS)
                .values(status=FAILED, finished_at=time.time(), error=json.dumps(DEADLY))
            )
            connection.execute(JOBS.update().where(unfinished).values(status=QUEUED))
        return self.unfinished()

    def unfinished(self) -> list[Job]:
        """The jobs to be computed: those that were ordered in their order, then oldest first."""
        order = (JOBS.c.place.is_(None), JOBS.c.place, JOBS.c.id)
        query = sa.select(JOBS).where(JOBS.c.status.in_(UNFINISHED)).order_by(*order)
        with self._engine.connect() as connection:
            return jobs_of(connection, connection.execute(query).mappings().all())

    def arrange(self, job_ids: Sequence[str]) -> None:
        """Keeps the order of jobs for the next start."""
        with self.transaction() as connection:
            for place, job_id in enumerate(job_ids):
                connection.execute(JOBS.update().where(JOBS.c.id == job_id).values(place=place))

    def paused_clients(self) -> set[str]:
        """The clients whose jobs wait until they are resumed."""
        with self._engine.connect() as connection:
            return set(connection.scalars(sa.select(PAUSED.c.client)))

    def pause(self, client: str, paused: bool) -> None:
        """Adds to or takes from `paused_clients`."""
        with self.transaction() as connection:
            connection.execute(PAUSED.delete().where(PAUSED.c.client == client))
            if paused:
                connection.execute(PAUSED.insert().values(client=client))

    def image_ids(self, job_id: str) -> list[str]:
        """The pictures of a job, deleted ones too."""
        with self._engine.connect() as connection:
            query = sa.select(IMAGES.c.id).where(IMAGES.c.job_id == job_id)
            return list(connection.scalars(query))

    def forget(self, job_id: str) -> None:
        """Deletes a finished job and the rows of its pictures."""
        with self.transaction() as connection:
            connection.execute(IMAGES.delete().where(IMAGES.c.job_id == job_id))
            connection.execute(JOBS.delete().where(JOBS.c.id == job_id))

    def images(
        self,
        limit: int,
        before: str | None = None,
        text: str | None = None,
        kind: str | None = None,
        favourite: bool | None = None,
        sort: Sort = "newest",
    ) -> list[Image]:
        """Pictures that are not deleted, in one of `rows.SORTS`."""
        query = page_of_images(limit, before, sort)
        if text:
            query = query.where(contains(IMAGES.c.prompt, text))
        if kind is not None:
            query = query.where(IMAGES.c.kind == kind)
        if favourite is not None:
            query = query.where(sa.func.coalesce(IMAGES.c.favourite, False) == favourite)
        with self._engine.connect() as connection:
            return [image_of(row) for row in connection.execute(query).mappings()]

    def images_by_id(self, image_ids: Sequence[str], deleted: bool = False) -> list[Image]:
        """Those of some pictures that are there, or that are deleted; in the order of the ids."""
        there = NOT_DELETED if not deleted else sa.not_(NOT_DELETED)
        query = sa.select(IMAGES).where(IMAGES.c.id.in_(image_ids), there)
        with self._engine.connect() as connection:
            found = {row["id"]: image_of(row) for row in connection.execute(query).mappings()}
        return [found[image_id] for image_id in dict.fromkeys(image_ids) if image_id in found]

    def change_images(self, image_ids: Sequence[str], **values: Any) -> None:
        """Sets columns of pictures: `favourite`, `deleted_at`."""
        with self.transaction() as connection:
            query = IMAGES.update().where(IMAGES.c.id.in_(image_ids)).values(**values)
            connection.execute(query)

    def deleted_images(self, until: float) -> list[str]:
        """The pictures that were deleted at a time or before it."""
        with self._engine.connect() as connection:
            return list(
                connection.scalars(sa.select(IMAGES.c.id).where(IMAGES.c.deleted_at <= until))
            )

    def erase_images(self, image_ids: Sequence[str]) -> None:
        """Deletes the rows of pictures."""
        with self.transaction() as connection:
            connection.execute(IMAGES.delete().where(IMAGES.c.id.in_(image_ids)))
