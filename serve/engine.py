"""Where jobs go: what routes know of it (`Engine`), and what a worker does (`Work`).

`dg2_jax.serve.local_engine` is both, for one process; in `dg2_jax.serve.fleet` each is a class of
its own, for several processes on one PostgreSQL.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dg2_jax.serve.batches import JobBatch
from dg2_jax.serve.events import Channel
from dg2_jax.serve.files import Files
from dg2_jax.serve.metrics import Metrics
from dg2_jax.serve.records import Image, Job


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
        """The events of an unfinished job; not to be called in an event loop."""

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


class Work(Protocol):
    """What a worker takes, and what it does with it.

    Attributes:
        files: where pictures lie.
        metrics: what is counted.
        draining: whether no more is begun, and the worker should end with what is under way.
        stopping: whether it should end at once.
        unavailable: why no job can be computed, if so.
    """

    files: Files
    metrics: Metrics
    draining: bool
    stopping: bool
    unavailable: str | None

    def take(
        self, sizes: tuple[int, ...], timeout: float, room: bool | None = None
    ) -> JobBatch | None:
        """The next batch, None if there is none in `timeout` seconds or the server stops.

        Args:
            sizes: of batches, see `FairQueue.choose`; none: only jobs that share are taken.
            timeout: to wait.
            room: whether there is room for pictures of jobs that share, each of which is a batch;
                None: no job does.
        """

    def is_open(self, job_id: str) -> bool:
        """Whether a job is neither finished nor cancelled."""

    def is_watched(self, job_id: str) -> bool:
        """Whether anybody reads a job's events at this moment."""

    def annotate(self, job: Job, notes: list[str]) -> None:
        """Notes what is done otherwise than asked; stored with the job's pictures."""

    def put(self, job_id: str, name: str, data: dict[str, Any]) -> None:
        """An event of an unfinished job."""

    def deliver(self, batch: JobBatch, pictures: Sequence[tuple[Image, bytes]]) -> None:
        """Stores a batch's pictures, files first; those of jobs ended meanwhile are dropped."""

    def retry(self, batch: JobBatch, limit: int, alone: bool) -> None:
        """Puts a batch back, for batches of at most `limit` pictures, each job alone or not."""

    def fail(self, batch: JobBatch, status: int, detail: str) -> None:
        """Ends the jobs of a batch with an error."""

    def release(self, batch: JobBatch) -> None:
        """Puts a batch back that was stopped."""

    def wait_for_room(self, error: Exception) -> None:
        """Says that jobs wait because nothing can be stored, and waits a little."""

    def found_room(self) -> None:
        """Says that jobs go on, if they waited."""


class WorkerThread(Protocol):
    """What the engine knows of its worker, see `dg2_jax.serve.worker.Worker`."""

    on_failure: Callable[[str], None]

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
