"""What a client may do with its own jobs that wait: hold them, order them, cancel them all."""

import threading
from collections.abc import Callable, Sequence

from dg2_jax.serve.disk import Disk
from dg2_jax.serve.open_jobs import OpenJobs
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.records import RUNNING
from dg2_jax.serve.store import Store


class ClientQueues:
    """The waiting jobs by client; a client never touches another's."""

    def __init__(
        self,
        jobs: OpenJobs,
        store: Store,
        disk: Disk,
        changed: threading.Condition,
        cancel: Callable[[str], None],
    ):
        self._open, self._store, self._disk, self._changed = jobs, store, disk, changed
        self._cancel = cancel

    def jobs(self, client: str) -> list[str]:
        """The ids of a client's unfinished jobs: those that run, then the others in their order."""
        with self._changed:
            jobs, queue = self._open.jobs, self._open.queue
            waiting = [i for i in queue.of(client) if jobs[i].status != RUNNING]
            theirs = [job.id for job in jobs.values() if job.client == client]
            return [i for i in theirs if i not in waiting] + waiting

    def paused(self, client: str) -> bool:
        """Whether a client's jobs wait until they are resumed."""
        with self._changed:
            return client in self._open.queue.paused

    def pause(self, client: str, paused: bool) -> None:
        """Holds a client's jobs, or lets them go on; a batch that runs is finished."""
        with self._changed:
            self._disk.insist(lambda: self._store.pause(client, paused))
            (self._open.queue.paused.add if paused else self._open.queue.paused.discard)(client)
            self._open.announce_positions()
            self._changed.notify_all()

    def arrange(self, client: str, job_ids: Sequence[str]) -> None:
        """Puts a client's waiting jobs in an order; those not named come after.

        Raises:
            ProblemError: 409, one does not wait, or not in this client's queue.
        """
        with self._changed:
            waiting = self._open.queue.of(client)
            for job_id in job_ids:
                if job_id not in waiting:
                    raise ProblemError(409, f"{job_id[:80]} does not wait in this client's queue")
            order = [*dict.fromkeys(job_ids), *(i for i in waiting if i not in job_ids)]
            self._disk.insist(lambda: self._store.arrange(order))
            self._open.queue.arrange(client, order)
            self._open.announce_positions()

    def clear(self, client: str) -> None:
        """Cancels a client's jobs that do not run."""
        with self._changed:
            for job_id in self._open.queue.of(client):
                if self._open.jobs[job_id].status != RUNNING:
                    self._cancel(job_id)
