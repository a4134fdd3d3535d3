"""The queue that all share, as a process sees it that answers requests."""

import contextlib
import threading
import time
from collections import Counter
from typing import Any

import sqlalchemy as sa
import structlog

from dg2_jax.serve import disk
from dg2_jax.serve.disk import Disk
from dg2_jax.serve.engine import WorkerThread
from dg2_jax.serve.events import FINAL, Channel, Hub
from dg2_jax.serve.fair_queue import check_room
from dg2_jax.serve.fleet import news, notices
from dg2_jax.serve.fleet.announced import AnnouncedModels
from dg2_jax.serve.fleet.claims import expire
from dg2_jax.serve.fleet.notices import Listener
from dg2_jax.serve.fleet.shared_queues import SharedQueues
from dg2_jax.serve.fleet.tasks import Tasks
from dg2_jax.serve.fleet.worker_engine import WATCHED_SECONDS, WorkerEngine
from dg2_jax.serve.fleet.workers import Workers
from dg2_jax.serve.metrics import Metrics
from dg2_jax.serve.problems import STOPPING, ProblemError, stopping
from dg2_jax.serve.records import CANCELLED, QUEUED, RUNNING, Job
from dg2_jax.serve.store import Store

log = structlog.get_logger()

_TURN_SECONDS = 0.25
_LOOK_SECONDS = 1.0  # between looks at the workers and the queue's length
_TIDY_SECONDS = 30.0
_NEWS_KEPT_SECONDS = 60.0  # after a job's end, for those who still read
_SECONDS_A_JOB = 2.0  # what is assumed for a refused client's time to wait
_NO_WORKER = {
    "ready": False,
    "state": "no worker",
    "detail": "no worker is alive: start dg2 worker",
    "warmup": {"done": 0, "total": 0, "current": None},
}


class ApiEngine:
    """The side of the engine that routes know, see `dg2_jax.serve.engine.Engine`.

    Attributes:
        own: the worker's side, where this process computes as well.
    """

    def __init__(
        self,
        store: Store,
        room: Disk,
        metrics: Metrics,
        queue_limit: int,
        client_limit: int,
        lease_seconds: float,
        own: WorkerEngine | None,
        models: AnnouncedModels | None,
    ):
        self.own = own
        self.draining = False
        self._store, self._disk, self._models = store, room, models
        self._tasks = Tasks(store)
        self._workers = Workers(store, lease_seconds)
        self.queues = SharedQueues(store, self._tasks)
        self._limits = queue_limit, client_limit
        self._lease_seconds = lease_seconds
        self._hub = Hub(only_held=True)
        self._reading = threading.Lock()
        self._order: list[str] | None = None
        self._changes = 0  # of the order
        self._alive: list[dict[str, Any]] = []
        self._counts: dict[str, Counter[str]] = {QUEUED: Counter(), RUNNING: Counter()}
        self._looked_at = self._watched_at = self._expired_at = self._tidied_at = 0.0
        self._listening_since = time.monotonic()
        heard = {
            notices.WORK: lambda _: self._forget_order(),
            notices.MOVED: lambda _: self._forget_order(),
            notices.EVENTS: self._refresh,
        }
        self._listener = Listener(store.url, heard, self._missed, self._chores, _TURN_SECONDS)
        metrics.watch_jobs(lambda: self._counts)

    @property
    def worker(self) -> WorkerThread | None:
        """The thread that computes, if one does here."""
        return self.own.worker if self.own is not None else None

    def start(self) -> None:
        """See `Engine`."""
        self._tasks.adopt()
        self._look()
        self._listener.start()
        if self.own is not None:
            self.own.start()

    def submit(self, job: Job) -> tuple[Job, bool]:
        """See `Engine`."""
        known = self._store.by_key(job.client, job.idempotency_key)
        if known is None:
            self._check_open()
            try:
                self._tasks.add(job, self._check_room)
            except sa.exc.IntegrityError:  # sent twice at once
                known = self._store.by_key(job.client, job.idempotency_key)
                if known is None:
                    raise
            else:
                self._forget_order()
                return job, True
        if not known.request.asks_the_same(job.request):
            raise ProblemError(409, "this Idempotency-Key was used for another request")
        return known, False

    def cancel(self, job_id: str) -> None:
        """See `Engine`."""
        self._tasks.end(job_id, CANCELLED)
        self._forget_order()
        self._refresh(job_id)

    def channel(self, job_id: str) -> Channel | None:
        """See `Engine`."""
        channel = self._hub.channel(job_id)  # first: from now on it is told what is new
        self._refresh(job_id)
        if not channel.last_id or any(channel.latest(name) for name in FINAL):
            self._hub.close(job_id)
            return None
        self._call_out_watched([job_id])
        return channel

    def position(self, job_id: str) -> int | None:
        """See `Engine`."""
        order, changes = self._order, self._changes
        if order is None:
            order = self._tasks.order()
            if changes == self._changes:
                self._order = order
        return order.index(job_id) if job_id in order else None

    def progress(self, job_id: str) -> dict[str, Any] | None:
        """See `Engine`."""
        channel = self._hub.get(job_id)
        if channel is not None and channel.watched:
            return channel.latest("progress")
        with self._store.transaction() as connection:
            return news.newest(connection, job_id).get("progress")

    def status(self) -> dict[str, Any]:
        """See `Engine`."""
        self._counts = self._tasks.counts()
        return self._status()

    def _status(self) -> dict[str, Any]:
        waiting, running = (self._counts[status].total() for status in (QUEUED, RUNNING))
        return {
            "length": waiting,
            "running": running,
            "limit": self._limits[0],
            "draining": self.draining,
            "open": waiting + running,
        }

    def ready(self) -> dict[str, Any]:
        """See `Engine`; as it was a moment ago."""
        told = [worker["ready"] for worker in self._alive]
        readiness = max(told, key=lambda ready: ready["ready"], default=_NO_WORKER)
        if self.worker is not None:
            readiness = self.worker.readiness()
        if self.draining:
            readiness = readiness | {"ready": False, "state": "draining", "detail": STOPPING}
        elif (reason := self._trouble()) is not None:
            readiness = readiness | {"ready": False, "state": "no room", "detail": reason}
        queue = self._status()
        return readiness | {"queue": {name: queue[name] for name in ("length", "running", "limit")}}

    def health(self) -> dict[str, Any]:
        """See `Engine`."""
        if self.worker is not None:
            return self.worker.health()
        told = [worker["health"] for worker in self._alive]
        return {
            "device": next(iter(told), {"device": None})["device"],
            "loaded": sorted({name for health in told for name in health["loaded"]}),
        }

    def drain(self, seconds: float) -> None:
        """See `Engine`."""
        self.draining = True
        running: set[str] = set()
        with contextlib.suppress(*disk.ERRORS):
            jobs = self._store.jobs_by_id(list(self._hub.watched()))
            running = {job.id for job in jobs if job.status == RUNNING}
        self._hub.hang_up(except_of=running)
        if self.own is not None:
            self.own.drain(seconds)
        else:
            end = time.monotonic() + seconds
            while running & set(self._hub.watched()) and time.monotonic() < end:
                time.sleep(_TURN_SECONDS)
        self._hub.hang_up()
        self._listener.stop()

    # Inside

    def _check_open(self) -> None:
        if self.draining:
            raise stopping()
        if (reason := self._unavailable()) is not None:
            raise ProblemError(503, reason, retry_after=60)
        if (reason := self._disk.trouble) is not None:
            status = 503 if reason == disk.UNREACHABLE else 507
            raise ProblemError(status, reason, retry_after=disk.RETRY_SECONDS)

    def _unavailable(self) -> str | None:
        """Why no worker that is alive can compute, if so."""
        if self.own is not None:
            return self.own.unavailable
        told = [worker["ready"] for worker in self._alive]
        failed = [ready["detail"] for ready in told if ready["state"] == "failed"]
        return failed[0] if failed and len(failed) == len(told) else None

    def _check_room(self, waiting: int, of_client: int) -> None:
        check_room(waiting, of_client, *self._limits, _SECONDS_A_JOB / max(1, len(self._alive)))

    def _trouble(self) -> str | None:
        if time.monotonic() - self._looked_at > max(5.0, 5 * _LOOK_SECONDS):
            return disk.UNREACHABLE
        return self._disk.trouble

    def _forget_order(self) -> None:
        self._changes += 1
        self._order = None

    def _missed(self) -> None:
        self._listening_since = time.monotonic()
        self._forget_order()
        for job_id in self._hub.watched():
            self._refresh(job_id)

    def _refresh(self, job_id: str) -> None:
        """Hands on what a job's readers have not been told."""
        channel = self._hub.get(job_id)
        if channel is None:
            return
        with self._reading, self._store.transaction() as connection:
            for event in news.lasting(connection, job_id, channel.last_id):
                channel.put(event.name, event.data, event.id)
                if event.name in FINAL:
                    self._hub.close(job_id)
            for name, data in news.newest(connection, job_id).items():
                if channel.latest(name) != data:
                    channel.put(name, data, channel.last_id + 1)

    def _call_out_watched(self, job_ids: list[str]) -> None:
        with self._store.transaction() as connection:
            for job_id in job_ids:
                notices.notify(connection, notices.WATCHED, job_id)

    def _chores(self) -> None:
        now = time.monotonic()
        self._announce_positions()
        if now - self._watched_at > WATCHED_SECONDS / 3:
            self._call_out_watched(list(self._hub.watched()))
            self._watched_at = now
        if now - self._looked_at >= _LOOK_SECONDS:
            self._look()
        patient = now - self._listening_since > self._lease_seconds
        if patient and now - self._expired_at > min(2.0, self._lease_seconds / 4):
            expire(self._store)
            self._expired_at = now
        if now - self._tidied_at > _TIDY_SECONDS:
            with self._store.transaction() as connection:
                news.forget(connection, _NEWS_KEPT_SECONDS)
            self._tidied_at = now

    def _look(self) -> None:
        self._alive, self._counts = self._workers.alive(), self._tasks.counts()
        if self._models is not None:
            self._models.update([worker["models"] for worker in self._alive])
        self._looked_at = time.monotonic()

    def _announce_positions(self) -> None:
        """Tells those who watch a waiting job its place, where that has changed."""
        watched = self._hub.watched()
        if not watched:
            return
        for job_id, channel in watched.items():
            position = self.position(job_id)
            last = channel.latest("position") or channel.latest("queued") or {}
            waits = position is not None and channel.latest("started") is None
            if waits and last.get("position") != position:
                with self._reading:
                    channel.put("position", {"position": position}, channel.last_id + 1)
