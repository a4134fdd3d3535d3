"""Measures how long training waits for its batches: the input stall, and the loader alone.

    python -m scripts.measure_input --config=configs/demo.py --data_dir=runs/encoded

Runs `steps` real training steps after those that compile and prints, as JSON, the share of their
time in which the loop waited for the loader (`input_stall`), seconds a step, and batches a second
of the loader by itself. Nothing is written.
"""

import json
import time
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from dg2_jax import config as config_lib
from dg2_jax import model
from dg2_jax.training import data as data_lib
from dg2_jax.training import optimizer, runs, state, step
from scripts.command import command

_CONFIG = config_flags.DEFINE_config_file("config", "configs/demo.py", "The run.")
_DATA = flags.DEFINE_string("data_dir", "data/encoded", "What scripts.prepare made.")
_STEPS = flags.DEFINE_integer("steps", 30, "Steps that are measured.", lower_bound=1)
_WARMUP = 5  # steps: they compile, for every length of captions that comes up


def main() -> None:
    """Measures and prints."""
    config = config_lib.from_mapping(runs.DenoiserRunConfig, _CONFIG.value)
    data = data_lib.open_data(Path(_DATA.value), config)
    architecture = model.ARCHITECTURES[model.architecture_name(config.denoiser)]
    graphdef, params = state.network(
        lambda rngs: architecture.module(config.denoiser, rngs=rngs), config.seed
    )
    loss = step.diffusion_loss(graphdef, config.diffusion, data.scaling_factor, data.shift_factor)
    step_fn = step.make_train_step(loss, config)
    current = state.create(params, optimizer.make(config.optim, config.num_steps))
    loader = runs.make_loader(config, data.train, data.transform, data.collate)
    start, waited = 0.0, 0.0
    for i in range(_WARMUP + _STEPS.value):
        if i == _WARMUP:
            jax.block_until_ready(current.params)
            start, waited = time.perf_counter(), loader.waited
        current, metrics = step_fn(current, next(loader))
        float(metrics["loss"])  # as the loop does, which keeps one step in flight at most
    seconds = time.perf_counter() - start
    waited = loader.waited - waited
    alone = runs.make_loader(config, data.train, data.transform, data.collate)
    next(alone)
    start = time.perf_counter()
    for _ in range(_STEPS.value):
        next(alone)
    rate = _STEPS.value / (time.perf_counter() - start)
    measured = {
        "input_stall": waited / seconds,
        "seconds_per_step": seconds / _STEPS.value,
        "loader_batches_per_second": rate,
    }
    print(json.dumps({name: float(f"{value:.3g}") for name, value in measured.items()}))


if __name__ == "__main__":
    command(main)
