"""Where jobs go: the interface that routes know; `dg2_jax.serve.local_engine` implements it.

Another implementation (replicas behind Ray Serve and PostgreSQL, say) needs these methods only.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from dg2_jax.serve.events import Channel
from dg2_jax.serve.records import Job


class Queues(Protocol):
    """What a client does with its waiting jobs, see `dg2_jax.serve.client_queues.ClientQueues`."""

    def jobs(self, client: str) -> list[str]:
        """The ids of a client's unfinished jobs: those that run, then the others in their order."""

    def paused(self, client: str) -> bool:
        """Whether a client's jobs wait until they are resumed."""

    def pause(self, client: str, paused: bool) -> None:
        """Holds a client's jobs, or lets them go on."""

    def arrange(self, client: str, job_ids: Sequence[str]) -> None:
        """Puts a client's waiting jobs in an order.

        Raises:
            ProblemError: 409, one does not wait, or not in this client's queue.
        """

    def clear(self, client: str) -> None:
        """Cancels a client's jobs that do not run."""


class Engine(Protocol):
    """What computes jobs, as far as routes are concerned.

    Attributes:
        queues: the waiting jobs by client.
    """

    @property
    def queues(self) -> Queues:
        """See the class."""

    def start(self) -> None:
        """Takes up unfinished jobs; called once."""

    def submit(self, job: Job) -> tuple[Job, bool]:
        """Stores and queues a job; returns it and whether it is new (see `Store.add`).

        Raises:
            ProblemError: 409, 429 or 503, the latter two with a time to wait.
        """

    def cancel(self, job_id: str) -> None:
        """Ends a job if it is not finished: a waiting one never runs, a running one stops."""

    def channel(self, job_id: str) -> Channel | None:
        """The events of an unfinished job."""

    def position(self, job_id: str) -> int | None:
        """How many jobs are before a waiting one."""

    def progress(self, job_id: str) -> dict[str, Any] | None:
        """A running job's progress."""

    def status(self) -> dict[str, Any]:
        """The state of the queue: length, running, limit."""

    def ready(self) -> dict[str, Any]:
        """Whether a job would be computed without delay, as `GET /ready` tells it."""

    def health(self) -> dict[str, Any]:
        """The device that computes, and the models in memory, as `GET /health` tells them."""

    def drain(self, seconds: float) -> None:
        """Takes no more jobs and lets the running batch end, or stops it after `seconds`."""


class WorkerThread(Protocol):
    """What the engine knows of its worker, see `dg2_jax.serve.worker.Worker`."""

    def readiness(self) -> dict[str, Any]:
        """Whether a job would be computed without delay, and what is still to be compiled."""

    def health(self) -> dict[str, Any]:
        """See `Engine`."""

    def start(self) -> None:
        """Starts to take batches."""

    def is_alive(self) -> bool:
        """Whether it runs."""

    def join(self, timeout: float | None = None) -> None:
        """Waits for its end."""
