"""The pictures under way that share batches, each at a step of its own, and whose they are."""

import functools
import time
from typing import Any

import structlog

from dg2_jax.serve import batches, faults, lengths, pictures
from dg2_jax.serve.batches import Item, JobBatch
from dg2_jax.serve.engine import Work
from dg2_jax.serve.fair_queue import NO_LIMIT
from dg2_jax.serve.models import Models
from dg2_jax.serve.views import progress_view

log = structlog.get_logger()

_SECONDS = 0.05  # about what a call takes: nothing waits longer to enter, to be shown or to stop
_MOST_ROWS = 16


class Sharing:
    """What the worker keeps of the pictures in its slots; for its thread alone.

    Attributes:
        size: branches of guidance that are evaluated together, see `dg2_jax.generation.slots`;
            fewer after the device ran out of memory, until another picture leaves.
    """

    def __init__(self, engine: Work, models: Models):
        self._engine, self._models = engine, models
        self.size = 1
        self._slots: Any = None  # JAX takes seconds to import
        self._items: dict[Any, Item] = {}  # by picture
        self._entered: dict[Any, float] = {}
        self._shown: dict[Any, str] = {}  # the last previews
        self._calls: dict[str, Any] = {}  # by the ids of jobs
        self._row_seconds = _SECONDS

    @property
    def busy(self) -> bool:
        """Whether pictures are under way."""
        return bool(self._items)

    @property
    def room(self) -> int:
        """Branches that are free."""
        return self._slots.room if self.busy else self.size

    def enter(self, batch: JobBatch) -> None:
        """Begins the one picture of a batch; where that fails, its job."""
        (item,) = batch.items
        name = None
        try:
            name = self._models.resolve(batch.model)
            if self._models.loaded(name) is None:  # two models at a time take twice the memory
                while self.busy and not self._engine.stopping:
                    self.advance()
                self._calls.clear()
            pipe = self._models.get(name)
            if not self.busy:
                self._slots = pipe.slots(self.size)
            call = self._calls.get(item.job.id)
            if call is None:
                self._engine.annotate(item.job, lengths.notes(pipe, item.job.request))
                call = pipe.begin(**batches.arguments(item.job, self._engine.files))
                self._calls[item.job.id] = call
            if self._slots.why_alone(call) is not None:  # what a list for the prompt holds, say
                engine = self._engine
                faults.settle(engine, lambda: engine.retry(batch, NO_LIMIT, alone=False))
                return
            picture = self._slots.enter(call, item.index)
        except Exception as error:
            if self.busy and faults.is_exhausted(error):
                faults.settle(self._engine, lambda: self._engine.retry(batch, 1, alone=True))
            else:
                self._fail(batch, error)
            return
        self._items[picture] = item
        self._entered[picture] = time.monotonic()
        self._count()

    def advance(self) -> None:
        """Some rows of some pictures; those that are finished are delivered."""
        self._drop_ended()
        if not self.busy:
            return
        due = self._slots.due()
        for picture in due:
            picture.look_every = self._look_every(self._items[picture])
        try:
            finished = self._run(due)
        except Exception as error:
            self._recover(due, error)
            return
        self._tell(due)
        self._deliver(finished)

    def release(self) -> None:
        """Pictures that are not finished wait for the next start of the server."""
        if self.busy:
            batch = JobBatch(list(self._items.values()))
            faults.settle(self._engine, lambda: self._engine.release(batch))
        for picture in list(self._items):
            self._leave(picture)

    @staticmethod
    def warm(pipe: Any, size: int, guidance_scale: float) -> None:
        """Compiles the program of a size by computing a row of it, and what pictures begin with."""
        slots = pipe.slots(size)
        one = {"num_inference_steps": 1, "guidance_scale": guidance_scale}
        call = pipe.begin(prompt="a lake at dawn", num_images=max(1, size // 2), **one)
        entered = [slots.enter(call, i) for i in range(len(call.prompts))]
        while slots.pictures:
            slots.advance()
        entered[0].result()

    def _run(self, due: list[Any]) -> list[Any]:
        rows = max(1, min(_MOST_ROWS, int(_SECONDS / self._row_seconds)))
        begun, before = time.monotonic(), due[0].rows_done
        finished = self._slots.advance(due, rows)
        took = (time.monotonic() - begun) / max(1, due[0].rows_done - before)
        self._row_seconds += 0.3 * (took - self._row_seconds)
        self._engine.metrics.batch_size.observe(len(due))
        return finished

    def _recover(self, due: list[Any], error: Exception) -> None:
        """One job's fault must not be another's: what failed together is tried apart.

        After an error the pictures are as they were before.
        """
        jobs = [self._items[picture].job.id for picture in due]
        log.warning("batch failed", jobs=jobs, images=len(due), error=str(error)[:500])
        if len(due) == 1:
            self._fail(JobBatch([self._items[due[0]]]), error)
        elif faults.is_exhausted(error):
            self._slots.size = max(1, self._slots.size // 2)
        else:
            for picture in filter(self._items.get, due):
                try:
                    self._deliver(self._slots.advance([picture], 1))
                except Exception as its_own:
                    self._fail(JobBatch([self._items[picture]]), its_own)

    def _fail(self, batch: JobBatch, error: Exception) -> None:
        faults.fail(self._engine, batch, error)
        self._drop_ended()

    def _drop_ended(self) -> None:
        """Pictures of jobs that were cancelled or failed."""
        for picture, item in list(self._items.items()):
            if not self._engine.is_open(item.job.id):
                self._leave(picture)
        for job_id in [job_id for job_id in self._calls if not self._engine.is_open(job_id)]:
            del self._calls[job_id]

    def _leave(self, picture: Any) -> None:
        self._slots.remove(picture)
        self._slots.size = self.size
        for kept in (self._items, self._entered, self._shown):
            kept.pop(picture, None)
        self._count()

    def _count(self) -> None:
        metrics = self._engine.metrics
        metrics.slots.set(self.size)
        metrics.slots_in_use.set(self._slots.size - self._slots.room if self.busy else 0)

    def _deliver(self, finished: list[Any]) -> None:
        """Stores finished pictures; what goes wrong with one is its job's fault alone."""
        for picture in finished:
            item = self._items.get(picture)
            if item is None:  # its job failed with another picture
                continue
            batch = JobBatch([item], self._entered[picture])
            self._leave(picture)
            try:
                result = picture.result()
                name = self._models.resolve(batch.model)
                model_hash = self._models.hash_of(name, batch.weights)
                made = batches.stored(item, result.images[0], result.metadata(0), model_hash)
                deliver = functools.partial(self._engine.deliver, batch, [made])
                faults.settle(self._engine, deliver)
            except Exception as error:
                self._fail(batch, error)

    def _look_every(self, item: Item) -> int | None:
        """Steps between previews, if there is somebody to see them."""
        if not self._engine.is_watched(item.job.id) or item.job.request.preview_mode == "none":
            return None
        return item.job.request.preview_every

    def _tell(self, moved: list[Any]) -> None:
        """Tells watchers how far their jobs are."""
        for job in {item.job.id: item.job for item in map(self._items.get, moved) if item}.values():
            own = [picture for picture, item in self._items.items() if item.job is job]
            first = max(own, key=lambda picture: picture.step / picture.num_steps)
            share = sum(picture.step / picture.num_steps for picture in own)
            elapsed = time.monotonic() - self._entered[first]
            eta = elapsed / max(1, first.step) * (first.num_steps - first.step)
            view = progress_view(job, first.step, first.num_steps, share, eta)
            self._engine.put(job.id, "progress", view)
            self._preview(job, own, [picture for picture in own if picture in moved])

    def _preview(self, job: Any, own: list[Any], moved: list[Any]) -> None:
        """Shows the job's pictures as they were when each was last to be looked at."""
        drawn = None
        for picture in moved:
            if picture.is_to_be_seen and picture.step < picture.num_steps:
                drawn = picture.preview(job.request.preview_mode)
                self._shown[picture] = pictures.data_uri(pictures.encode(drawn.images[0]))
        if drawn is not None:
            images = [
                {"index": self._items[picture].index, "url": self._shown[picture]}
                for picture in own
                if picture in self._shown
            ]
            step = {"step": drawn.step, "num_steps": drawn.num_steps}
            self._engine.put(job.id, "preview", {**step, "images": images})
