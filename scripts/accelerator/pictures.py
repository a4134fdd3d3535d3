"""Whole pictures of the embedded model by number at a time, as users make them."""

import functools
import time
from typing import Any

from dg2_jax.pipeline import Pipeline
from dg2_jax.scripts.accelerator import timing
from dg2_jax.scripts.accelerator.options import Options
from dg2_jax.scripts.accelerator.parity import PROMPT
from dg2_jax.scripts.accelerator.record import Record

_COUNTS = (1, 4, 16, 64)
_STEPS = 20


def run(record: Record, options: Options) -> None:
    """A case for each number of pictures of a call; a call of more than 16 runs in batches."""
    pipe = Pipeline.load("demo", compile_cache=False)
    for count in (1, 2) if options.quick else _COUNTS:
        record.case({"pictures": count}, measure, pipe, count, options.quick)


def measure(pipe: Pipeline, count: int, quick: bool) -> dict[str, Any]:
    """The first call, which compiles, and a later one."""
    steps = 2 if quick else _STEPS
    call = functools.partial(pipe, PROMPT, num_images=count, num_inference_steps=steps)
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    taken = timing.seconds(lambda: call().images, quick)
    return {"steps": steps, "first_s": first, "seconds": taken, "pictures_per_s": count / taken}
