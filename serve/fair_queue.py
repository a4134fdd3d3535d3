"""The order in which jobs are computed: clients take turns, each client's jobs in their order.

A turn is one picture that joins those under way or, of jobs that cannot share, one batch, not one
job, so that a job of many pictures does not keep others waiting. Pictures of other jobs that share
their settings fill a batch up.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from dg2_jax.serve.problems import ProblemError

NO_LIMIT = 1 << 30  # pictures of a batch, where nothing but the sizes of batches limits them


@dataclass
class Waiting:
    """What is left to do of a job.

    Attributes:
        job_id: whose.
        client: who asked for it.
        key: jobs of equal keys may be computed together.
        indices: of the pictures that are not finished.
        limit: pictures a batch may have while this job takes part.
        shares: whether its pictures may join those of any other job.
    """

    job_id: str
    client: str
    key: Hashable
    indices: list[int]
    limit: int = NO_LIMIT
    shares: bool = False


def check_room(
    waiting: int, of_client: int, limit: int, client_limit: int, seconds_a_job: float
) -> None:
    """Whether a client may add a job: `limit` may wait in all, `client_limit` of one client.

    Args:
        waiting: jobs that wait.
        of_client: those of them that are the client's.
        limit: see above.
        client_limit: see above.
        seconds_a_job: that one takes.

    Raises:
        ProblemError: 503 or 429, with a time to wait.
    """
    wait = int(min(60, max(1, waiting * seconds_a_job / 2)))
    if waiting >= limit:
        raise ProblemError(503, "the queue is full", retry_after=wait)
    if of_client >= client_limit:
        detail = f"this client has {client_limit} jobs waiting, the most it may have"
        raise ProblemError(429, detail, retry_after=wait)


class FairQueue:
    """Jobs by client; not thread-safe, its owner locks.

    Attributes:
        paused: clients whose jobs are not taken.
    """

    def __init__(self) -> None:
        self._clients: OrderedDict[str, list[Waiting]] = OrderedDict()
        self.paused: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._clients.values()))

    def __iter__(self) -> Iterator[Waiting]:
        """The jobs in the order in which they will be taken; those of paused clients are last."""
        return chain(self._in_turn(paused=False), self._in_turn(paused=True))

    def _in_turn(self, paused: bool) -> Iterator[Waiting]:
        """One job of each client, then the next, of those that are paused or of the others."""
        theirs = [jobs for who, jobs in self._clients.items() if (who in self.paused) == paused]
        return (job for job in chain.from_iterable(zip_longest(*theirs)) if job is not None)

    @property
    def ready(self) -> bool:
        """Whether a job may be taken."""
        return any(who not in self.paused for who in self._clients)

    def of(self, client: str) -> list[str]:
        """The ids of a client's jobs, in their order."""
        return [job.job_id for job in self._clients.get(client, ())]

    def arrange(self, client: str, job_ids: Sequence[str]) -> None:
        """Puts a client's jobs in an order that names all of them."""
        place = {job_id: i for i, job_id in enumerate(job_ids)}
        self._clients.get(client, []).sort(key=lambda job: place[job.job_id])

    def check_room(self, client: str, limit: int, client_limit: int, seconds_a_job: float) -> None:
        """Whether a client may add a job, see `check_room`."""
        own = len(self._clients.get(client, ()))
        check_room(len(self), own, limit, client_limit, seconds_a_job)

    def position(self, job_id: str) -> int | None:
        """How many jobs are before one; None if it is not here."""
        return next((i for i, job in enumerate(self) if job.job_id == job_id), None)

    def push(self, job: Waiting, first: bool = False) -> None:
        """Adds a job after the others of its client, or before them."""
        jobs = self._clients.setdefault(job.client, [])
        jobs.insert(0 if first else len(jobs), job)

    def remove(self, job_id: str) -> bool:
        """Takes a job out; False if it is not here."""
        waiting = next((job for job in self if job.job_id == job_id), None)
        if waiting is not None:
            self._drop(waiting)
        return waiting is not None

    def choose(self, sizes: tuple[int, ...]) -> list[tuple[Waiting, list[int]]]:
        """The next batch: pairs (job, indices of its pictures), as many in all as one of `sizes`.

        The client whose turn it is gives the settings. Nothing is taken yet.

        Args:
            sizes: allowed batch sizes, growing, the first 1.
        """
        ready = list(self._in_turn(paused=False))
        if not ready:
            return []
        head = ready[0]
        alike = [job for job in ready if job.key == head.key and job.limit == head.limit]
        available = min(sum(len(job.indices) for job in alike), head.limit)
        room = max(size for size in sizes if size <= max(1, available))
        batch = []
        for job in alike:
            batch.append((job, job.indices[:room]))
            room -= len(batch[-1][1])
            if room == 0:
                break
        return batch

    def take(self, sizes: tuple[int, ...]) -> list[tuple[Waiting, list[int]]]:
        """The batch that `choose` gives, taken out; the turn of its client is then over.

        A job whose pictures are not all taken keeps the others in the queue, at its place.
        """
        batch = self.choose(sizes)
        for job, taken in batch:
            job.indices = job.indices[len(taken) :]
            if not job.indices:
                self._drop(job)
        if batch and batch[0][0].client in self._clients:
            self._clients.move_to_end(batch[0][0].client)
        return batch

    def _drop(self, job: Waiting) -> None:
        jobs = self._clients[job.client]
        jobs[:] = [other for other in jobs if other is not job]
        if not jobs:
            del self._clients[job.client]
