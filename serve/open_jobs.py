"""The jobs that are not finished: what of them waits, what is under way, and their events."""

from collections import Counter
from collections.abc import Sequence

import structlog

from dg2_jax.serve import batches
from dg2_jax.serve.batches import Item
from dg2_jax.serve.events import Hub
from dg2_jax.serve.fair_queue import FairQueue, Waiting
from dg2_jax.serve.metrics import Metrics
from dg2_jax.serve.records import QUEUED, RUNNING, Job
from dg2_jax.serve.store import Store
from dg2_jax.serve.views import job_view

log = structlog.get_logger()


class OpenJobs:
    """They, by id; not thread-safe, the engine locks.

    Attributes:
        jobs: by id.
        queue: what of them waits.
        under_way: the pictures of them that are being computed.
    """

    def __init__(self, store: Store, metrics: Metrics, events: Hub):
        self._store, self._metrics, self._events = store, metrics, events
        self.jobs: dict[str, Job] = {}
        self.queue = FairQueue()
        self.under_way: list[Item] = []

    @property
    def running(self) -> set[str]:
        """The jobs that pictures under way are of."""
        return {item.job.id for item in self.under_way if item.job.id in self.jobs}

    def counts(self) -> dict[str, Counter[str]]:
        """How many jobs there are, by status and model."""
        waiting = Counter(self.jobs[job.job_id].model for job in self.queue)
        return {QUEUED: waiting, RUNNING: Counter(self.jobs[job].model for job in self.running)}

    def leave(self, items: Sequence[Item]) -> None:
        """Pictures that are no longer under way; those of finished jobs are not, either."""
        self.under_way = [
            item for item in self.under_way if item not in items and item.job.id in self.jobs
        ]

    def enqueue(self, job: Job) -> None:
        """Adds a job; what of it is not finished waits."""
        self.jobs[job.id] = job
        waiting = Waiting(job.id, job.client, batches.key(job), job.missing)
        waiting.shares = batches.shares(job.request)
        self.queue.push(waiting)
        self._events.channel(job.id).put("queued", {"position": len(self.queue) - 1})

    def wait_again(self, job: Job, limit: int, alone: bool) -> None:
        """What of a job is neither finished nor under way waits, before its client's other jobs.

        Args:
            job: the job.
            limit: pictures that its batches may have.
            alone: whether they may hold no other job's.
        """
        self.queue.remove(job.id)
        if job.id in self.jobs:
            under_way = [item.index for item in self.under_way if item.job is job]
            if not under_way:
                job.status, job.attempts = QUEUED, 0
            missing = [index for index in job.missing if index not in under_way]
            key = (batches.key(job), job.id) if alone else batches.key(job)
            self.queue.push(Waiting(job.id, job.client, key, missing, limit), first=True)

    def announce_positions(self) -> None:
        """Tells those who watch a waiting job its place, where that has changed."""
        for position, waiting in enumerate(self.queue):
            channel = self._events.channel(waiting.job_id)
            job = self.jobs[waiting.job_id]
            if channel.watched and job.status == QUEUED:
                last = channel.latest("position") or channel.latest("queued") or {}
                if last.get("position") != position:
                    channel.put("position", {"position": position})

    def end(self, job_id: str) -> None:
        """Tells the end of a job that the store knows as finished, and forgets it."""
        self.jobs.pop(job_id, None)
        job = self._store.get(job_id)
        if job is None:
            return
        self._metrics.jobs.labels(job.kind, job.status).inc()
        log.info("job ended", job=job_id, status=job.status, client=job.client)
        self._events.channel(job_id).put(job.status, job_view(job))
        self._events.close(job_id)

    def tell_waiting(self, reason: str | None) -> None:
        """Tells why no job goes on, or for None that they do."""
        for job_id in self.jobs:
            self._events.channel(job_id).put("waiting", {"reason": reason})
