"""The engine in this process: a queue in memory over the rows of the store, for one worker."""

import contextlib
import functools
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from dg2_jax.serve import disk, problems
from dg2_jax.serve.batches import Item, JobBatch
from dg2_jax.serve.client_queues import ClientQueues
from dg2_jax.serve.disk import Disk
from dg2_jax.serve.engine import WorkerThread
from dg2_jax.serve.events import Channel, Hub
from dg2_jax.serve.files import Files
from dg2_jax.serve.metrics import Metrics
from dg2_jax.serve.open_jobs import OpenJobs
from dg2_jax.serve.problems import STOPPING, ProblemError, stopping
from dg2_jax.serve.records import CANCELLED, FAILED, RUNNING, Image, Job
from dg2_jax.serve.store import Store
from dg2_jax.serve.views import image_view


class LocalEngine:
    """Both `Engine` and `Work`: a queue in memory over the store's rows, for one worker here."""

    def __init__(
        self,
        store: Store,
        files: Files,
        room: Disk,
        metrics: Metrics,
        limit: int,
        client_limit: int,
    ):
        self.store = store
        self.files = files
        self._disk = room
        self.metrics = metrics
        self._limits = limit, client_limit
        self._hub = Hub()
        self._open = OpenJobs(store, metrics, self._hub)
        self._delivered_at = 0.0
        self._changed = threading.Condition(threading.RLock())
        self.queues = ClientQueues(self._open, store, room, self._changed, self.cancel)
        self.draining = False
        self.stopping = False
        self._seconds_a_job = 2.0
        self.worker: WorkerThread | None = None
        self.unavailable: str | None = None
        metrics.watch_jobs(self._counts)

    # What routes call

    def start(self) -> None:
        """See `Engine`."""
        with self._changed:
            self._open.queue.paused = self.store.paused_clients()
            for job in self._recovered():
                self._open.enqueue(job)
                for image in job.images:
                    self._hub.channel(job.id).put("image", image_view(image))
        if self.worker is not None:
            self.worker.start()

    def submit(self, job: Job) -> tuple[Job, bool]:
        """See `Engine`."""
        with self._changed:
            known = self.store.by_key(job.client, job.idempotency_key)
            if known is None:
                self._check_room(job.client)
                self.store.add(job)
                self._open.enqueue(job)
                self._open.announce_positions()
                self._changed.notify_all()
                return job, True
        if not known.request.asks_the_same(job.request):
            raise ProblemError(409, "this Idempotency-Key was used for another request")
        return known, False

    def cancel(self, job_id: str) -> None:
        """See `Engine`."""
        with self._changed:
            if self._disk.insist(lambda: self.store.finish(job_id, CANCELLED)):
                self._open.queue.remove(job_id)
                self._open.end(job_id)
            self._open.announce_positions()

    def channel(self, job_id: str) -> Channel | None:
        """See `Engine`."""
        return self._hub.get(job_id)

    def position(self, job_id: str) -> int | None:
        """See `Engine`."""
        with self._changed:
            return self._open.queue.position(job_id)

    def progress(self, job_id: str) -> dict[str, Any] | None:
        """See `Engine`."""
        channel = self._hub.get(job_id)
        return channel.latest("progress") if channel is not None else None

    def status(self) -> dict[str, Any]:
        """See `Engine`."""
        return {
            "length": len(self._open.queue),
            "running": len(self._open.running),
            "limit": self._limits[0],
            "draining": self.draining,
            "open": len(self._open.jobs),
        }

    def ready(self) -> dict[str, Any]:
        """See `Engine`."""
        assert self.worker is not None
        readiness, queue = self.worker.readiness(), self.status()
        if self.draining:
            readiness |= {"ready": False, "state": "draining", "detail": STOPPING}
        elif (reason := self._disk.trouble) is not None:
            readiness |= {"ready": False, "state": "no room", "detail": reason}
        return readiness | {"queue": {name: queue[name] for name in ("length", "running", "limit")}}

    def health(self) -> dict[str, Any]:
        """See `Engine`."""
        assert self.worker is not None
        return self.worker.health()

    def drain(self, seconds: float) -> None:
        """See `Engine`."""
        with self._changed:
            self.draining = True
            self._hub.hang_up(except_of=self._open.running)
            self._changed.notify_all()
        if self.worker is not None and self.worker.is_alive():
            self.worker.join(seconds)
            self.stopping = True
            self.worker.join(5)
        with self._changed, contextlib.suppress(*disk.ERRORS):  # a start recovers them as well
            self._disk.insist(lambda: self.store.put_back(list(self._open.running)))
        self._hub.hang_up()

    # What the worker calls

    def take(
        self, sizes: tuple[int, ...], timeout: float, room: bool | None = None
    ) -> JobBatch | None:
        """See `Work`."""
        with self._changed:
            if not self._open.queue.ready and not self.draining:
                self._changed.wait(timeout)
            head = next(iter(self._open.queue), None)
            shares = room is not None and head is not None and head.shares
            if shares:
                sizes = (1,) if room else ()
            chosen = self._open.queue.choose(sizes) if sizes and not self.draining else []
            items = [
                Item(self._open.jobs[waiting.job_id], index)
                for waiting, indices in chosen
                for index in indices
            ]
            if not items:
                self.found_room()
                return None
            self._disk.check()
            batch = JobBatch(items, shares=shares)
            begun = [job for job in batch.jobs if job.id not in self._open.running]
            self._disk.insist(lambda: self.store.start([job.id for job in begun]))
            self._open.queue.take(sizes)
            self._open.under_way += items
            self.found_room()
            for job in begun:
                job.attempts += 1
                if job.status != RUNNING:
                    job.status, job.started_at = RUNNING, time.time()
                    waited = job.started_at - job.created_at
                    self.metrics.queue_seconds.labels(job.model).observe(waited)
                    self._hub.channel(job.id).put("started", {"attempt": job.attempts})
            self._open.announce_positions()
        return batch

    def is_open(self, job_id: str) -> bool:
        """See `Work`."""
        return job_id in self._open.jobs

    def is_watched(self, job_id: str) -> bool:
        """See `Work`."""
        channel = self._hub.get(job_id)
        return channel is not None and channel.watched

    def annotate(self, job: Job, notes: list[str]) -> None:
        """See `Work`."""
        if notes and job.notes != notes:
            job.notes = notes
            self.put(job.id, "notes", {"notes": notes})

    def put(self, job_id: str, name: str, data: dict[str, Any]) -> None:
        """See `Work`."""
        channel = self._hub.get(job_id)
        if channel is not None:
            channel.put(name, data)

    def deliver(self, batch: JobBatch, pictures: Sequence[tuple[Image, bytes]]) -> None:
        """See `Work`."""
        current = [(image, png) for image, png in pictures if image.job_id in self._open.jobs]
        if current:
            self._disk.check()
        for image, png in pictures:
            if image.job_id in self._open.jobs:
                self.files.write(image.id, png)
            else:  # cancelled; an attempt on a full disk may have written it
                self.files.delete(image.id)
        with self._changed:
            complete = self.store.add_images(
                [image for image, _ in current], {job.id: job.notes for job in batch.jobs}
            )
            self.found_room()
            self._open.leave(batch.items)
            for image, _ in current:
                job = self._open.jobs.get(image.job_id)
                if job is None:  # cancelled in this moment
                    self.files.delete(image.id)
                    continue
                job.images.append(image)
                job.attempts = 0
                self.put(image.job_id, "image", image_view(image))
            for job_id in complete:
                self._open.end(job_id)
        elapsed = time.monotonic() - max(batch.started_at, self._delivered_at)
        self._delivered_at = time.monotonic()
        self._seconds_a_job += 0.2 * (elapsed / len(batch.jobs) - self._seconds_a_job)
        self.metrics.images.inc(len(current))
        self.metrics.image_seconds.observe(elapsed / len(batch.items))

    def retry(self, batch: JobBatch, limit: int, alone: bool) -> None:
        """See `Work`."""
        with self._changed:
            rest = {item.job.id for item in self._open.under_way if item not in batch.items}
            idle = [job.id for job in batch.jobs if job.id not in rest]
            self._disk.insist(lambda: self.store.put_back(idle))
            self._open.leave(batch.items)
            for job in batch.jobs:
                self._open.wait_again(job, limit, alone)

    def fail(self, batch: JobBatch, status: int, detail: str) -> None:
        """See `Work`."""
        error = problems.problem(status, detail)
        with self._changed:
            for job_id in batch.ids:
                finish = functools.partial(self.store.finish, job_id, FAILED, error)
                if self._disk.insist(finish):
                    self._open.queue.remove(job_id)
                    self._open.end(job_id)
            self._open.leave(batch.items)

    def release(self, batch: JobBatch) -> None:
        """See `Work`."""
        with self._changed:
            unfinished = [id_ for id_ in batch.ids if id_ in self._open.jobs]
            self._disk.insist(lambda: self.store.put_back(unfinished))
            self._open.leave(batch.items)

    def wait_for_room(self, error: Exception) -> None:
        """See `Work`."""
        with self._changed:
            self._disk.report(error, self._open.tell_waiting)
            if not self.draining:
                self._changed.wait(disk.LOOK_SECONDS)

    def found_room(self) -> None:
        """See `Work`."""
        with self._changed:
            self._disk.report(None, self._open.tell_waiting)

    # Inside

    def _counts(self) -> Mapping[str, Mapping[str, int]]:
        with self._changed:
            return self._open.counts()

    def _recovered(self) -> list[Job]:
        try:
            return self._disk.insist(self.store.recover)
        except disk.ERRORS as error:
            if not disk.is_full(error):
                raise
            return self.store.unfinished()

    def _check_room(self, client: str) -> None:
        if self.draining:
            raise stopping()
        if self.unavailable is not None:
            raise ProblemError(503, self.unavailable, retry_after=60)
        if (reason := self._disk.trouble) is not None:
            raise ProblemError(507, reason, retry_after=disk.RETRY_SECONDS)
        self._open.queue.check_room(client, *self._limits, self._seconds_a_job)
