"""What an error of the pipeline means for the job that it befell, and errors of its end."""

from collections.abc import Callable

import structlog

from dg2_jax.serve import disk
from dg2_jax.serve.batches import JobBatch
from dg2_jax.serve.engine import Work

log = structlog.get_logger()


def is_exhausted(error: Exception) -> bool:
    """Whether there was too little memory."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def told(error: Exception) -> tuple[int, str]:
    """The status and the words that a client is told."""
    if is_exhausted(error):
        return 503, "the device has not enough memory for this job"
    if isinstance(error, ValueError):
        return 422, str(error)
    return 500, f"the job failed: {type(error).__name__}"


def settle(engine: Work, action: Callable[[], None]) -> None:
    """Does what ends a batch; where it cannot be stored, as soon as it can."""
    while True:
        try:
            action()
            engine.found_room()
            return
        except disk.ERRORS as error:
            if engine.draining:  # the next start computes it again
                return
            engine.wait_for_room(error)


def fail(engine: Work, batch: JobBatch, error: Exception) -> None:
    """Ends the jobs of a batch with what an error means; logs one that nobody foresaw."""
    status, detail = told(error)
    if status == 500:
        log.error("job failed", jobs=batch.ids, exc_info=error)
    settle(engine, lambda: engine.fail(batch, status, detail))
