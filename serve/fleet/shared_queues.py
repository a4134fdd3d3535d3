"""What a client does with its waiting jobs, where several processes share a database."""

from collections.abc import Sequence

from dg2_jax.serve.fleet.tasks import Tasks
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.records import CANCELLED, QUEUED, RUNNING
from dg2_jax.serve.store import Store

_MOST = 1000  # unfinished jobs of a client that are looked at


class SharedQueues:
    """See `dg2_jax.serve.engine.Queues`."""

    def __init__(self, store: Store, tasks: Tasks):
        self._store, self._tasks = store, tasks

    def jobs(self, client: str) -> list[str]:
        """See `Queues`."""
        running = self._store.jobs(_MOST, status=RUNNING, client=client)
        return [job.id for job in reversed(running)] + self._waiting(client)

    def paused(self, client: str) -> bool:
        """See `Queues`."""
        return client in self._store.paused_clients()

    def pause(self, client: str, paused: bool) -> None:
        """See `Queues`."""
        self._tasks.pause(client, paused)

    def arrange(self, client: str, job_ids: Sequence[str]) -> None:
        """See `Queues`."""
        waiting = self._waiting(client)
        for job_id in job_ids:
            if job_id not in waiting:
                raise ProblemError(409, f"{job_id[:80]} does not wait in this client's queue")
        order = [*dict.fromkeys(job_ids), *(i for i in waiting if i not in job_ids)]
        self._tasks.arrange(client, order)

    def clear(self, client: str) -> None:
        """See `Queues`."""
        for job_id in self._waiting(client):
            self._tasks.end(job_id, CANCELLED)

    def _waiting(self, client: str) -> list[str]:
        queued = {job.id for job in self._store.jobs(_MOST, status=QUEUED, client=client)}
        return [job_id for job_id in self._tasks.order() if job_id in queued]
