"""The cost of saving and input in a training run: python -m scripts.measure_training
--data_dir=DIR.

Takes steps of --config on the data like scripts.train, some while a checkpoint is written in the
background, alternating with as many without. Prints the time a save adds, relative to the steps
between two saves; the share of time spent waiting for batches (the input stall); and the loader's
own rate in batches per second. Keep the machine quiet. Checkpoints go to a temporary folder and are
deleted.
"""

import statistics
import tempfile
import time
from pathlib import Path

import jax
from absl import flags

from dg2_jax import config as config_lib
from dg2_jax.scripts import config_flag
from dg2_jax.scripts.command import command
from dg2_jax.training import data as data_lib
from dg2_jax.training import runs, sharding, starting, step
from dg2_jax.training.checkpoint import CheckpointManager

_CONFIG = config_flag.define(runs.DenoiserRunConfig, "demo")
_DATA = flags.DEFINE_string("data_dir", "data/encoded", "Encoded data, as of scripts.train.")
_STEPS = flags.DEFINE_integer("steps", 8, "Steps during which a save is written.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Repeats with a save, and as many without.")


def main() -> None:
    """Prints four lines."""
    config = config_lib.from_mapping(runs.DenoiserRunConfig, _CONFIG.value.to_dict())
    data = data_lib.open_data(Path(_DATA.value), config)
    network, params = starting.build_denoiser(config)
    loss = step.diffusion_loss(network, config.diffusion, data.scaling)
    layout = sharding.make_layout(config.devices, config.batch_size, config.tensor_rules)
    train = step.make_train_step(loss, config)
    loader = starting.make_loader(config, data.train, data.transform, data.collate)
    current = layout.place_state(starting.initial_state(config, params))

    def take(count: int) -> float:
        """Seconds of `count` steps, with metrics fetched one step late as in `loop.train`."""
        nonlocal current
        start, late = time.perf_counter(), None
        for _ in range(count):
            current, metrics = train(current, layout.place_batch(next(loader)))
            if late is not None:
                jax.device_get(late)
            late = metrics
        jax.block_until_ready(current)
        return time.perf_counter() - start

    take(3)  # compiles
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = CheckpointManager(folder, keep=1)
        blocked, with_save, without, waited = [], [], [], loader.waited
        for i in range(_REPEATS.value):
            start = time.perf_counter()
            checkpoints.save(i, current, {}, loader.position())
            blocked.append(time.perf_counter() - start)
            seconds = take(_STEPS.value)
            start = time.perf_counter()
            checkpoints.wait()
            with_save.append(blocked[-1] + seconds + time.perf_counter() - start)
            without.append(take(_STEPS.value))
        size = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
    each = statistics.median(without) / _STEPS.value
    added = statistics.median(a - b for a, b in zip(with_save, without, strict=True))
    every = config.loop.checkpoint_every
    stall = (loader.waited - waited) / (sum(without) + sum(with_save))
    print(f"step: {each:.3f} s")
    print(
        f"a save of {size / 1e6:.0f} MB adds {added:.2f} s ({statistics.median(blocked):.2f} s of "
        f"them before the next step begins): {added / (every * each):.2%} of the {every} steps "
        f"between two saves"
    )
    print(f"waiting for batches: {stall:.2%} of the time")
    alone = starting.make_loader(config, data.train, data.transform, data.collate)
    next(alone)
    start = time.perf_counter()
    for _ in range(_STEPS.value):
        next(alone)
    print(f"the loader alone: {_STEPS.value / (time.perf_counter() - start):.1f} batches a second")


if __name__ == "__main__":
    command(main)
