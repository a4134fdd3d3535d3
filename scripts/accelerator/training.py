"""A training step of every configuration on random latents: rate, share of the peak, memory."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dg2_jax.scripts.accelerator import subjects, timing
from dg2_jax.scripts.accelerator.options import Options
from dg2_jax.scripts.accelerator.peaks import PRECISIONS
from dg2_jax.scripts.accelerator.record import Record
from dg2_jax.training import sharding, starting, step
from dg2_jax.training.shapes import abstract_run

_CASES = (  # pictures that fit into 80 GB with room to spare
    ("demo", "bfloat16", 256),
    ("demo", "float32", 256),
    ("toy", "bfloat16", 64),
    ("base", "bfloat16", 16),
)


def run(record: Record, options: Options) -> None:
    """A case for each configuration."""
    for model, arithmetic, batch in _CASES:
        if model in options.models:
            names = {
                "model": model,
                "arithmetic": arithmetic,
                "batch": 2 if options.quick else batch,
            }
            record.case(names, measure, names, options.quick)


def measure(names: Mapping[str, Any], quick: bool) -> dict[str, Any]:
    """Loss, gradient, optimiser and averages, of the configuration."""
    dtype, precision = PRECISIONS[names["arithmetic"]]
    config = subjects.run_config(
        names["model"], compute_dtype=dtype, batch_size=names["batch"], init_from=""
    )
    run = abstract_run(config, subjects.side_of(names["model"], quick))
    state = starting.initial_state(config, subjects.random_params(run.state.params))
    batch = jax.device_put(jax.tree.map(_data, run.batch))
    # One device, of as many as there are.
    layout = sharding.make_layout(
        config.devices, config.batch_size, config.tensor_rules, jax.devices()[:1]
    )
    train = step.make_train_step(run.loss, config, layout)
    with jax.default_matmul_precision(precision):
        program, facts = timing.compiled(train, state, batch, donate_argnums=0)
    current = [state]

    def once() -> Any:
        current[0], metrics = program(current[0], batch)
        return metrics["loss"]

    taken = timing.seconds(once, quick)
    if not np.isfinite(float(once())):
        raise FloatingPointError("the loss is not finite")
    return {"step_s": taken, "pictures_per_s": names["batch"] / taken, **facts}


def _data(leaf: jax.ShapeDtypeStruct) -> Any:
    if leaf.dtype == jnp.bool_:
        return np.ones(leaf.shape, bool)
    return np.random.default_rng(0).normal(size=leaf.shape).astype(leaf.dtype)
