"""What workers take of the pictures that are not finished, and for how long.

A worker's claim is a lease: renewed while the worker lives, and over when it does not. A lapsed one
counts as an attempt. Every claim of a picture has a number of its own, and only who holds the
latest may store the picture, so that a worker that was away for longer than its lease changes
nothing any more.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dg2_jax.serve import changes
from dg2_jax.serve.events import REPLACED
from dg2_jax.serve.fleet import news, notices
from dg2_jax.serve.fleet import task_rows as rows
from dg2_jax.serve.fleet.news import NOW
from dg2_jax.serve.fleet.task_rows import FREE, KEY, ORDER
from dg2_jax.serve.fleet.tasks import PAUSED_CLIENT
from dg2_jax.serve.records import FAILED, QUEUED, RUNNING, UNFINISHED, Image, Job
from dg2_jax.serve.rows import jobs_of
from dg2_jax.serve.store import DEADLY, MAX_ATTEMPTS, Store
from dg2_jax.serve.tables import JOBS, NEWEST, TASKS
from dg2_jax.serve.views import image_view

# What stopped, or failed, together is tried apart: pictures of no other job are in the batch.
ALONE = {"shares": False, "key": sa.func.md5(TASKS.c.key + TASKS.c.job_id)}


class Claim(NamedTuple):
    """A picture that a worker has taken: its job and index, and the number of the claim."""

    job_id: str
    picture: int
    number: int


class Taken(NamedTuple):
    """A batch that a worker has taken.

    Attributes:
        claims: its pictures.
        jobs: theirs.
        begun: the ids of those that had waited.
        shares: whether its picture may join others under way.
    """

    claims: list[Claim]
    jobs: list[Job]
    begun: set[str]
    shares: bool


class Claims:
    """Those of one worker, in the database of a store on PostgreSQL."""

    def __init__(self, store: Store, worker: str, lease_seconds: float):
        self._store, self._worker = store, worker
        self._until = NOW + lease_seconds

    def take(
        self, models: Collection[str], sizes: tuple[int, ...], room: bool | None = None
    ) -> Taken | None:
        """Takes the next batch; None if nothing waits. It is empty where what is next does not fit.

        Args:
            models: by name, that the worker has.
            sizes: see `LocalEngine.take`.
            room: likewise.
        """
        query = sa.select(TASKS).where(FREE, ~PAUSED_CLIENT, _offered(models))
        query = query.with_for_update(skip_locked=True, of=TASKS)
        with self._store.transaction() as connection:
            first = query.order_by(*ORDER).limit(1)
            head = connection.execute(first).mappings().one_or_none()
            if head is None:
                return None
            shares = room is not None and head["shares"]
            if shares:
                sizes = (1,) if room else ()
            if not sizes:
                return Taken([], [], set(), shares)
            taken, most = [head], min(sizes[-1], head["most"])
            if most > 1:
                others = TASKS.c.job_id != head["job_id"]
                alike = query.where(TASKS.c.key == head["key"], TASKS.c.most == head["most"])
                alike = alike.order_by(others, *ORDER).limit(most)
                taken = list(connection.execute(alike).mappings())
                taken = taken[: max(size for size in sizes if size <= len(taken))]
            claims = self._claim(connection, [(row["job_id"], row["index"]) for row in taken])
            jobs, begun = self._begin(connection, sorted({row["job_id"] for row in taken}))
            notices.notify(connection, notices.MOVED)
        return Taken(claims, jobs, begun, shares)

    def _claim(self, connection: Connection, keys: Sequence[tuple[str, int]]) -> list[Claim]:
        claimed = connection.execute(
            TASKS.update()
            .where(sa.tuple_(*KEY).in_(keys))
            .values(
                worker=self._worker,
                lease_until=self._until,
                claim=TASKS.c.claim + 1,
                attempts=TASKS.c.attempts + 1,
            )
            .returning(*KEY, TASKS.c.claim)
        )
        numbers = {(job_id, index): number for job_id, index, number in claimed}
        return [Claim(*key, numbers[key]) for key in keys]

    @staticmethod
    def _begin(connection: Connection, job_ids: Sequence[str]) -> tuple[list[Job], set[str]]:
        of_jobs = sa.select(JOBS).where(JOBS.c.id.in_(job_ids)).order_by(JOBS.c.id)
        before = connection.execute(of_jobs.with_for_update()).mappings().all()
        attempts = sa.select(sa.func.max(TASKS.c.attempts)).where(TASKS.c.job_id == JOBS.c.id)
        connection.execute(
            JOBS.update()
            .where(JOBS.c.id.in_(job_ids))
            .values(
                status=RUNNING,
                started_at=sa.func.coalesce(JOBS.c.started_at, NOW),
                attempts=attempts.scalar_subquery(),
            )
        )
        jobs = jobs_of(connection, connection.execute(of_jobs).mappings().all())
        waited = {row["id"] for row in before if row["status"] == QUEUED}
        for job in jobs:
            if job.id in waited:
                news.tell(connection, job.id, "started", {"attempt": job.attempts})
        return jobs, waited

    def unfinished(self, models: Collection[str]) -> int:
        """Pictures that wait or are under way, of models, but for those of paused clients."""
        counted = sa.select(sa.func.count()).select_from(TASKS)
        counted = counted.where(_offered(models), sa.or_(~FREE, ~PAUSED_CLIENT))
        with self._store.transaction() as connection:
            return connection.execute(counted).scalar_one()

    def renew(self) -> set[Claim]:
        """Prolongs all leases; returns what the worker holds."""
        own = TASKS.c.worker == self._worker
        with self._store.transaction() as connection:
            rows.lock(connection, own)
            renewed = TASKS.update().where(own).values(lease_until=self._until)
            held = connection.execute(renewed.returning(*KEY, TASKS.c.claim))
            return {Claim(*row) for row in held}

    def store_images(
        self,
        claims: Sequence[Claim],
        images: Sequence[tuple[Image, bytes]],
        notes: Mapping[str, list[str]],
        write: Callable[[str, bytes, Callable[[], object]], None],
    ) -> list[Image]:
        """Stores finished pictures, all or none, but for those that the worker holds no more.

        Files are written while the rows are locked: nobody else can take, or have taken, them. A
        process that is stopped meanwhile loses the locks, see `database.with_time_outs`, and learns
        of it before a file takes its place.

        Args:
            claims: of the pictures.
            images: rows and files.
            notes: of their jobs, by id.
            write: stores a picture's file, see `Files.write`.

        Returns:
            Those that were stored.

        Raises:
            Exception: of `disk.ERRORS`, nothing was stored.
        """
        with self._store.transaction() as connection:
            held = rows.lock(connection, _are(claims))
            stored = [(i, png) for i, png in images if (i.job_id, i.index) in held]
            for image, png in stored:
                write(image.id, png, lambda: connection.execute(sa.select(1)))
            connection.execute(TASKS.delete().where(_are(claims)))
            complete = changes.add_images(connection, [image for image, _ in stored], notes)
            for image, _ in stored:
                news.tell(connection, image.job_id, "image", image_view(image))
            for job_id in complete:
                rows.tell_end(connection, job_id)
            self._fall_silent(connection, held)
        return [image for image, _ in stored]

    def give_back(self, claims: Sequence[Claim], **values: Any) -> None:
        """What the worker holds waits again, through no fault of its own.

        Args:
            claims: of it.
            values: of columns, for all that waits of the jobs.
        """
        with self._store.transaction() as connection:
            own = sa.and_(_are(claims), TASKS.c.worker == self._worker)
            of_jobs = TASKS.c.job_id.in_({claim.job_id for claim in claims})
            locked = rows.lock(connection, own | (FREE & of_jobs) if values else own)
            found = connection.execute(sa.select(*KEY).where(own))
            held = {(job_id, index) for job_id, index in found}
            _requeue(connection, held, {"attempts": TASKS.c.attempts - 1})
            if values:  # of all that waits of the jobs
                waits = sa.tuple_(*KEY).in_(locked)
                connection.execute(TASKS.update().where(waits).values(**values))
            self._fall_silent(connection, held)

    def fail(self, claims: Sequence[Claim], error: Mapping[str, Any]) -> None:
        """Ends the jobs of what the worker holds."""
        with self._store.transaction() as connection:
            job_ids = sorted({claim.job_id for claim in claims})
            locked = rows.lock_for_end(connection, job_ids)
            own = (_are(claims), TASKS.c.worker == self._worker)
            held = sa.select(TASKS.c.job_id).where(*own).distinct()
            for job_id in sorted(connection.scalars(held)):
                rows.end(connection, locked, job_id, FAILED, error)

    def tell(self, events: Mapping[tuple[str, str], dict[str, Any]]) -> None:
        """Tells events of unfinished jobs, by job and name."""
        open_jobs = sa.select(JOBS.c.id).where(JOBS.c.status.in_(UNFINISHED))
        open_jobs = open_jobs.where(JOBS.c.id.in_({job_id for job_id, _ in events}))
        open_jobs = open_jobs.order_by(JOBS.c.id).with_for_update(key_share=True)
        with self._store.transaction() as connection:
            known = set(connection.scalars(open_jobs))
            for (job_id, name), data in events.items():
                if job_id in known and name in REPLACED:
                    news.show(connection, self._worker, job_id, name, data)
                elif job_id in known:
                    news.tell(connection, job_id, name, data)

    def _fall_silent(self, connection: Connection, held: Collection[tuple[str, int]]) -> None:
        """What the worker said of jobs of which it holds nothing more is no longer true."""
        holds = sa.select(TASKS.c.job_id).where(TASKS.c.worker == self._worker)
        said = (NEWEST.c.worker == self._worker, NEWEST.c.job_id.in_({i for i, _ in held}))
        connection.execute(NEWEST.delete().where(*said, NEWEST.c.job_id.not_in(holds)))


def expire(store: Store) -> None:
    """What workers hold that have not renewed their leases waits again.

    The job fails where that has happened too often.
    """
    lapsed = TASKS.c.lease_until < NOW
    deadly = (lapsed, TASKS.c.attempts >= MAX_ATTEMPTS)
    again = sa.select(*KEY).where(lapsed, TASKS.c.attempts < MAX_ATTEMPTS).order_by(*KEY)
    with store.transaction() as connection:
        found = connection.execute(again.with_for_update(skip_locked=True))
        _requeue(connection, {(job_id, index) for job_id, index in found}, ALONE)
        failing = set(connection.scalars(sa.select(TASKS.c.job_id).where(*deadly)))
    for job_id in failing:
        with store.transaction() as connection:
            locked = rows.lock_for_end(connection, [job_id])
            if connection.scalar(sa.select(sa.exists().where(*deadly, TASKS.c.job_id == job_id))):
                rows.end(connection, locked, job_id, FAILED, DEADLY)


def _requeue(
    connection: Connection, keys: Collection[tuple[str, int]], values: Mapping[str, Any]
) -> None:
    """Rows that are locked wait again."""
    if not keys:
        return
    freed = TASKS.update().where(sa.tuple_(*KEY).in_(keys))
    connection.execute(freed.values(worker=None, lease_until=None, **values))
    for job_id in sorted({job_id for job_id, _ in keys}):
        of_job = TASKS.c.job_id == job_id
        held = sa.exists().where(of_job, ~FREE)
        attempts = sa.select(sa.func.max(TASKS.c.attempts)).where(of_job).scalar_subquery()
        connection.execute(
            JOBS.update()
            .where(JOBS.c.id == job_id, JOBS.c.status == RUNNING)
            .values(status=sa.case((held, RUNNING), else_=QUEUED), attempts=attempts)
        )
    notices.notify(connection, notices.WORK)


def _offered(models: Collection[str]) -> sa.ColumnElement[bool]:
    return sa.or_(TASKS.c.model.is_(None), TASKS.c.model.in_(models))


def _are(claims: Sequence[Claim]) -> sa.ColumnElement[bool]:
    return sa.tuple_(*KEY, TASKS.c.claim).in_(claims)
