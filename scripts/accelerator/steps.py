"""Guided steps of every configuration: time, share of the peak, memory, compile time, kernels."""

from collections.abc import Mapping
from typing import Any

import jax

from dg2_jax.scripts.accelerator import subjects, timing
from dg2_jax.scripts.accelerator.options import Options
from dg2_jax.scripts.accelerator.peaks import PRECISIONS
from dg2_jax.scripts.accelerator.record import Record

# The most telling ones first, so that they are known if no time is left for all.
_ORDER = (
    ("bfloat16", 1), ("bfloat16", 64), ("bfloat16", 8), ("float32", 1),
    ("bfloat16", 16), ("bfloat16", 2), ("bfloat16", 32), ("bfloat16", 4),
)  # fmt: skip
_QUICK = ("bfloat16", 1), ("bfloat16", 2), ("float32", 1)
_STEPS = 8


def run(record: Record, options: Options) -> None:
    """A case for each arithmetic, batch size and model."""
    for arithmetic, batch in _QUICK if options.quick else _ORDER:
        for model in options.models:
            names = {"model": model, "arithmetic": arithmetic, "batch": batch}
            record.case(names, measure, names, options.quick)


def measure(names: Mapping[str, Any], quick: bool) -> dict[str, Any]:
    """A sampler of some steps, per step of the whole batch."""
    dtype, precision = PRECISIONS[names["arithmetic"]]
    of = subjects.subject(names["model"], dtype, quick)
    steps = 2 if quick else _STEPS
    arguments = jax.device_put(
        (subjects.random_params(of.shapes), *subjects.inputs(of, names["batch"]))
    )
    with jax.default_matmul_precision(precision):
        program, facts = timing.compiled(subjects.sampler(of, steps), *arguments)
    taken = timing.seconds(lambda: program(*arguments), once=quick) / steps
    facts["gflop"] /= steps
    return {
        "pixels": 8 * of.side,
        "step_s": taken,
        "image_steps_per_s": names["batch"] / taken,
        **facts,
    }
