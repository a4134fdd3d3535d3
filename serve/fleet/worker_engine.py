"""What one worker has of the queue that all share: it takes, keeps, gives back and delivers."""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import structlog

from dg2_jax.serve import disk, problems
from dg2_jax.serve.batches import Item, JobBatch
from dg2_jax.serve.disk import Disk
from dg2_jax.serve.engine import WorkerThread
from dg2_jax.serve.files import Files
from dg2_jax.serve.fleet import notices
from dg2_jax.serve.fleet.claims import ALONE, Claim, Claims, expire
from dg2_jax.serve.fleet.notices import Listener
from dg2_jax.serve.fleet.workers import Workers
from dg2_jax.serve.metrics import Metrics
from dg2_jax.serve.models import Models
from dg2_jax.serve.records import Image, Job
from dg2_jax.serve.store import Store

log = structlog.get_logger()

_TURN_SECONDS = 0.05  # what watchers see is at most so old
_UNWATCHED_SECONDS = 1.0  # likewise what others find who ask
WATCHED_SECONDS = 15.0  # how long a notice that somebody reads holds


class WorkerEngine:
    """The worker's side of the engine, see `dg2_jax.serve.engine.Work`.

    Attributes:
        name: of the worker.
        worker: the thread that computes, set before `start`.
    """

    def __init__(
        self,
        store: Store,
        files: Files,
        room: Disk,
        metrics: Metrics,
        models: Models,
        lease_seconds: float,
    ):
        self.name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
        self.files, self.metrics = files, metrics
        self.draining = self.stopping = False
        self.unavailable: str | None = None
        self.worker: WorkerThread | None = None
        self._store, self._disk, self._models = store, room, models
        self._claims = Claims(store, self.name, lease_seconds)
        self._workers = Workers(store, lease_seconds)
        self._lease_seconds = lease_seconds
        self._changed = threading.Condition(threading.RLock())
        self._jobs: dict[str, Job] = {}
        self._held: dict[tuple[str, int], Claim] = {}
        self._may_find = True
        self._to_tell: dict[tuple[str, str], dict[str, Any]] = {}
        self._watched: dict[str, float] = {}  # until when
        self._told_at = self._renewed_at = self._listening_since = 0.0
        heard = {
            notices.WORK: lambda _: self._look(),
            notices.ENDED: self._drop,
            notices.WATCHED: self._note_watched,
        }
        self._listener = Listener(store.url, heard, self._missed, self._chores, _TURN_SECONDS)

    def start(self) -> None:
        """Begins to compute."""
        assert self.worker is not None
        self._listener.start()
        self.worker.start()

    def drain(self, seconds: float) -> None:
        """Takes nothing more, lets what is under way end, or after `seconds` gives it back."""
        with self._changed:
            self.draining = True
            self._changed.notify_all()
        if self.worker is not None and self.worker.is_alive():
            self.worker.join(seconds)
            self.stopping = True
            self.worker.join(5)
        with contextlib.suppress(*disk.ERRORS):  # else its leases lapse
            self._tell(everything=True)
            self._claims.give_back(list(self._held.values()))
            self._held.clear()
        self._listener.stop()
        with contextlib.suppress(*disk.ERRORS):
            self._workers.leave(self.name)

    # What the worker calls

    def take(
        self, sizes: tuple[int, ...], timeout: float, room: bool | None = None
    ) -> JobBatch | None:
        """See `Work`."""
        with self._changed:
            if not self._may_find and not self.draining:
                self._changed.wait(timeout)
            if not self._may_find or self.draining:
                return None
            self._disk.check()
            self._may_find = False
            try:
                taken = self._claims.take(self._models.names, sizes, room)
            except disk.ERRORS:
                self._may_find = True
                raise
            self.found_room()
            if taken is None:
                return None
            self._may_find = True
            if not taken.claims:
                return None
            for job in taken.jobs:
                self._jobs.setdefault(job.id, job).images = job.images
                if job.id in taken.begun and job.started_at is not None:
                    waited = max(0.0, job.started_at - job.created_at)
                    self.metrics.queue_seconds.labels(job.model).observe(waited)
            items = [Item(self._jobs[claim.job_id], claim.picture) for claim in taken.claims]
            self._held |= {(claim.job_id, claim.picture): claim for claim in taken.claims}
            return JobBatch(items, shares=taken.shares)

    def is_open(self, job_id: str) -> bool:
        """See `Work`."""
        return job_id in self._jobs

    def is_watched(self, job_id: str) -> bool:
        """See `Work`."""
        return time.monotonic() < self._watched.get(job_id, 0.0)

    def annotate(self, job: Job, notes: list[str]) -> None:
        """See `Work`."""
        if notes and job.notes != notes:
            job.notes = notes
            self.put(job.id, "notes", {"notes": notes})

    def put(self, job_id: str, name: str, data: dict[str, Any]) -> None:
        """See `Work`."""
        with self._changed:
            if job_id in self._jobs:
                self._to_tell[job_id, name] = data

    def deliver(self, batch: JobBatch, pictures: Sequence[tuple[Image, bytes]]) -> None:
        """See `Work`."""
        self._disk.check()
        if any((job_id, "notes") in self._to_tell for job_id in batch.ids):
            self._tell(everything=True)
        notes = {job.id: job.notes for job in batch.jobs}
        stored = self._claims.store_images(self._held_of(batch), pictures, notes, self.files.write)
        with self._changed:
            self._let_go(batch)
            for image in stored:
                if image.job_id in self._jobs:
                    self._jobs[image.job_id].images.append(image)
        if len(stored) < len(pictures):
            log.info("pictures dropped", jobs=batch.ids, images=len(pictures) - len(stored))
        self.metrics.images.inc(len(stored))
        elapsed = time.monotonic() - batch.started_at
        self.metrics.image_seconds.observe(elapsed / len(batch.items))

    def retry(self, batch: JobBatch, limit: int, alone: bool) -> None:
        """See `Work`."""
        values = {"most": limit, "shares": False, **(ALONE if alone else {})}
        self._claims.give_back(self._held_of(batch), **values)
        self._let_go(batch)

    def release(self, batch: JobBatch) -> None:
        """See `Work`."""
        self._claims.give_back(self._held_of(batch))
        self._let_go(batch)

    def fail(self, batch: JobBatch, status: int, detail: str) -> None:
        """See `Work`."""
        self._claims.fail(self._held_of(batch), problems.problem(status, detail))
        for job_id in batch.ids:
            self._drop(job_id)

    def wait_for_room(self, error: Exception) -> None:
        """See `Work`."""
        with self._changed:
            self._disk.report(error, self._tell_waiting)
            if not self.draining:
                self._changed.wait(disk.LOOK_SECONDS)

    def found_room(self) -> None:
        """See `Work`."""
        with self._changed:
            self._disk.report(None, self._tell_waiting)

    # Inside

    def _held_of(self, batch: JobBatch) -> list[Claim]:
        with self._changed:
            keys = [(item.job.id, item.index) for item in batch.items]
            return [self._held[key] for key in keys if key in self._held]

    def _let_go(self, batch: JobBatch) -> None:
        with self._changed:
            for item in batch.items:
                self._held.pop((item.job.id, item.index), None)

    def _drop(self, job_id: str) -> None:
        """A job that is finished, or of which nothing is held any more."""
        with self._changed:
            self._jobs.pop(job_id, None)
            self._held = {key: claim for key, claim in self._held.items() if key[0] != job_id}
            self._to_tell = {key: data for key, data in self._to_tell.items() if key[0] != job_id}

    def _tell_waiting(self, reason: str | None) -> None:
        for job_id in self._jobs:
            self.put(job_id, "waiting", {"reason": reason})

    def _look(self) -> None:
        with self._changed:
            self._may_find = True
            self._changed.notify_all()

    def _note_watched(self, job_id: str) -> None:
        now = time.monotonic()
        self._watched = {key: until for key, until in self._watched.items() if until > now}
        self._watched[job_id] = now + WATCHED_SECONDS

    def _missed(self) -> None:
        self._listening_since = time.monotonic()
        self._renewed_at = 0.0
        self._look()

    def _chores(self) -> None:
        now = time.monotonic()
        everything = now - self._told_at >= _UNWATCHED_SECONDS
        self._tell(everything)
        if everything:
            self._told_at = now
        if now - self._renewed_at >= min(2.0, self._lease_seconds / 4):
            self._renewed_at = now
            self._renew()
            self._workers.tell(self.name, self.about())
            # Who was away does not judge at once: others may have been away as well.
            if now - self._listening_since > self._lease_seconds:
                expire(self._store)
            self._look()

    def _tell(self, everything: bool) -> None:
        with self._changed:
            due = {k: v for k, v in self._to_tell.items() if everything or self.is_watched(k[0])}
        if due:
            self._claims.tell(dict(sorted(due.items())))
            with self._changed:
                for key, data in due.items():
                    if self._to_tell.get(key) is data:
                        del self._to_tell[key]

    def _renew(self) -> None:
        """Prolongs leases; forgets what others have taken, and jobs that others have finished."""
        with self._changed:
            held = self._claims.renew()
            known = set(self._held.values())
            if unknown := held - known:  # the answer to a claim was lost
                self._claims.give_back(list(unknown))
            for claim in known - held:
                self._held.pop((claim.job_id, claim.picture), None)
            lost = {claim.job_id for claim in known - held}
            at_work = {job_id for job_id, _ in self._held}
            idle = set(self._jobs) - at_work
            open_jobs = {job.id for job in self._store.jobs_by_id(list(idle)) if not job.finished}
            for job_id in (lost | (idle - open_jobs)) - at_work:
                self._drop(job_id)

    @property
    def failure(self) -> str | None:
        """Why the process cannot go on and has to be replaced, if so."""
        assert self.worker is not None
        alive = self.draining or (self.worker.is_alive() and self._listener.is_alive())
        return self.unavailable or (None if alive else "a thread of the worker has ended")

    def demand(self) -> int:
        """The pictures, waiting or under way anywhere, that this worker could compute."""
        return self._claims.unfinished(self._models.names)

    def about(self) -> dict[str, Any]:
        """What the worker tells of itself."""
        assert self.worker is not None
        ready = self.worker.readiness()
        if self.draining:
            ready |= {"ready": False, "state": "draining", "detail": problems.STOPPING}
        return {"ready": ready, "health": self.worker.health(), "models": self._models.announced()}
