"""The one thread that owns the accelerator: takes batches, computes, delivers.

`python -m serve.worker` is a process with such a thread, see `dg2_jax.serve.fleet.process`.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import structlog

from dg2_jax.serve import batches, disk, faults, lengths, pictures
from dg2_jax.serve.batches import JobBatch, StoppedError
from dg2_jax.serve.engine import Work
from dg2_jax.serve.models import Models
from dg2_jax.serve.schemas import JobRequest
from dg2_jax.serve.sharing import Sharing
from dg2_jax.serve.views import progress_view
from dg2_jax.settings import BATCH_SIZES, PROMPTED

log = structlog.get_logger()

PATIENCE_SECONDS = 3.0  # idle time before the worker compiles the next batch size


class Worker(threading.Thread):
    """Computes until the engine drains: pictures that share batches, and between them the others.

    Attributes:
        state: "loading", "warming", "ready" or "failed".
        detail: why it failed, or what it does.
        device: what computes: platform, kind and number.
        warm: batch sizes that are compiled, of `sizes`.
        on_failure: called, from this thread, with the reason why nothing can be computed.
    """

    def __init__(
        self,
        engine: Work,
        models: Models,
        upscale: Callable[..., np.ndarray],
        max_batch: int = 8,
        warmup: bool = True,
        batching: str = "steps",
    ):
        super().__init__(name="accelerator", daemon=True)
        self._engine = engine
        self._models = models
        self._upscale = upscale
        self.sizes = tuple(size for size in BATCH_SIZES if size <= max_batch)
        self.warm = 0 if warmup else len(self.sizes)
        self._sharing = Sharing(engine, models) if batching == "steps" else None
        self._owed = 0.0  # seconds that those who share wait for, since others went before them
        self.device: dict[str, Any] | None = None  # known once JAX has begun
        self.state = "loading"
        self.detail = "loading the model"
        engine.metrics.watch_models(lambda: models.loaded_names)
        self.on_failure: Callable[[str], None] = lambda reason: None

    def readiness(self) -> dict[str, Any]:
        """Whether a job would be computed without delay, and what is still to be compiled."""
        return {
            "ready": self.state in ("ready", "warming") and self.warm > 0,
            "state": self.state,
            "detail": self.detail,
            "warmup": {
                "done": self.warm,
                "total": len(self.sizes),
                "current": self.detail if self.state == "warming" else None,
            },
        }

    def health(self) -> dict[str, Any]:
        """See `Engine`."""
        return {"device": self.device, "loaded": self._models.loaded_names}

    def run(self) -> None:
        """See the class."""
        try:
            self._models.load_default()
            self.device = _device()
            self._warm_next()
        except Exception as error:
            if not isinstance(error, ValueError):
                log.exception("the model cannot be used")
            self.state, self.detail = "failed", f"the model cannot be used: {error}"
            self._engine.unavailable = self.detail
            self.on_failure(self.detail)
            return
        while not self._engine.draining or (self._sharing and self._sharing.busy):
            try:
                self._turn()
            except disk.ERRORS as error:  # nothing was taken
                self._engine.wait_for_room(error)
            except Exception:
                log.exception("a turn of the worker failed")
                time.sleep(1)

    def _turn(self) -> None:
        """Takes a batch, or goes on with the pictures that share; without any, compiles."""
        # One size beyond the warm ones is allowed: running it compiles it, and there is demand.
        sizes = self.sizes[: self.warm + 1]
        sharing = self._sharing
        if sharing is None:
            batch = self._engine.take(sizes, timeout=PATIENCE_SECONDS)
        else:
            sharing.size = 2 * sizes[-1]  # most pictures are guided: two branches
            patience = 0.0 if sharing.busy else PATIENCE_SECONDS
            others = () if sharing.busy and self._owed > 0 else sizes
            batch = self._engine.take(others, patience, sharing.room > 0)
        begun = time.monotonic()
        if sharing is not None and batch is not None and batch.shares:
            sharing.enter(batch)
        elif batch is not None:
            self._run(batch)
            self._owed = time.monotonic() - begun
            if sharing is None and batch.request.kind in PROMPTED:
                self.warm = max(self.warm, sizes.index(len(batch.items)) + 1)
        elif sharing is not None and sharing.busy:
            self._share(sharing)
            self._owed -= time.monotonic() - begun
        elif self.warm < len(self.sizes) and not self._engine.draining:
            self._try_next_size()

    def _share(self, sharing: Sharing) -> None:
        """Some rows of the pictures that share."""
        if self._engine.stopping:
            sharing.release()
            return
        full = sharing.room <= 0
        sharing.advance()
        if full:
            self.warm = max(self.warm, self.sizes.index(sharing.size // 2) + 1)

    def _try_next_size(self) -> None:
        """Batches that cannot be compiled, for lack of memory say, are not made."""
        try:
            self._warm_next()
        except Exception as error:
            log.warning("batch size given up", size=self.sizes[self.warm], error=str(error)[:500])
            self.sizes = self.sizes[: self.warm]
            self.state, self.detail = "ready", "ready"

    def _warm_next(self) -> None:
        """Compiles the next batch size by computing one step of it."""
        if self.warm < len(self.sizes):
            size = self.sizes[self.warm]
            self.state, self.detail = "warming", f"compiling batches of {size}"
            start = time.monotonic()
            pipe = self._models.get(self._models.default)
            if self._sharing is not None:
                if size == self.sizes[:2][-1]:  # a picture without guidance, by itself
                    self._sharing.warm(pipe, 1, 1.0)
                self._sharing.warm(pipe, 2 * size, 3.0)
            else:
                pipe(
                    prompt=["a lake at dawn"] * size,
                    negative_prompt=[""] * size,
                    num_inference_steps=1,
                    seed=list(range(size)),
                    on_preview=self._draw_and_go_on,
                    preview_every=1,
                )
            seconds = time.monotonic() - start
            self._engine.metrics.compile_seconds.labels(self._models.default).inc(seconds)
            log.info("compiled", batch=size, seconds=round(seconds, 2))
            self.warm += 1
        self.state, self.detail = "ready", "ready"

    def _draw_and_go_on(self, preview: Any) -> bool:
        """Watches a warm-up: the drawing of previews is compiled too."""
        np.asarray(preview.images)
        return self._engine.draining

    def _run(self, batch: JobBatch) -> None:
        """Computes a batch of jobs that agree in their settings."""
        self._engine.metrics.batch_size.observe(len(batch.items))
        try:
            name = self._models.resolve(batch.model)
            pipe = self._models.get(name)
            for job in batch.jobs:
                self._engine.annotate(job, lengths.notes(pipe, job.request))
            results = batch.compute(
                pipe,
                self._upscale,
                self._engine.files,
                self._models.place,
                lambda *seen: self._watch(batch, *seen),
            )
            model_hash = self._models.hash_of(name, batch.weights)
            images = [
                batches.stored(item, *result, model_hash)
                for item, result in zip(batch.items, results, strict=True)
            ]
            faults.settle(self._engine, lambda: self._engine.deliver(batch, images))
        except StoppedError:
            faults.settle(self._engine, lambda: self._engine.release(batch))
        except Exception as error:
            self._recover(batch, error)

    def _recover(self, batch: JobBatch, error: Exception) -> None:
        """One job's fault must not be another's: what failed together is tried apart."""
        exhausted = faults.is_exhausted(error)
        count = len(batch.items)
        log.warning("batch failed", jobs=batch.ids, images=count, error=str(error)[:500])
        if len(batch.jobs) > 1 or (count > 1 and exhausted):
            most = max(s for s in BATCH_SIZES if s <= count // 2) if exhausted else count
            faults.settle(self._engine, lambda: self._engine.retry(batch, most, alone=True))
            return
        faults.fail(self._engine, batch, error)

    def _watch(
        self, batch: JobBatch, step: int, num_steps: int, draw: Callable[[], Sequence[np.ndarray]]
    ) -> bool:
        """Tells watchers how far a batch is; True stops it."""
        if self._must_stop(batch):
            return True
        elapsed = time.monotonic() - batch.started_at
        eta = elapsed / step * (num_steps - step)
        for job in batch.jobs:
            indices = [item.index for item in batch.items if item.job is job]
            running = len(indices) * step / max(1, num_steps)
            view = progress_view(job, step, num_steps, running, eta)
            self._engine.put(job.id, "progress", view)
            if _has_preview(job.request, step, num_steps) and self._engine.is_watched(job.id):
                view = self._preview(batch, job, step, num_steps, draw())
                self._engine.put(job.id, "preview", view)
        return self._must_stop(batch)

    def _must_stop(self, batch: JobBatch) -> bool:
        """Whether a running batch should stop: the server is stopping, or no job of it is left."""
        return self._engine.stopping or not any(map(self._engine.is_open, batch.ids))

    @staticmethod
    def _preview(
        batch: JobBatch, job: Any, step: int, num_steps: int, previews: Sequence[np.ndarray]
    ) -> dict[str, Any]:
        images = [
            {"index": item.index, "url": pictures.data_uri(pictures.encode(pixels))}
            for item, pixels in zip(batch.items, previews, strict=False)
            if item.job is job
        ]
        return {"step": step, "num_steps": num_steps, "images": images}


def _device() -> dict[str, Any]:
    import jax  # it may take seconds; the server answers before

    first, *others = jax.local_devices()
    return {"platform": first.platform, "kind": first.device_kind, "count": 1 + len(others)}


def _has_preview(request: JobRequest, step: int, num_steps: int) -> bool:
    if getattr(request, "preview_mode", "none") == "none":
        return False
    return step % request.preview_every == 0 and step < num_steps


if __name__ == "__main__":
    from dg2_jax.serve.fleet.process import main

    main()
