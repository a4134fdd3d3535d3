"""The cost of a training step on many devices: python -m scripts.scaling.

Counts parameters, saved activations and floating-point operations from the shapes of the program,
without compiling anything or creating weights. Prints the tables of docs/scaling.md.
"""

import contextlib
import dataclasses
import io
import re

import jax
import jax.numpy as jnp
from absl import flags
from jax.ad_checkpoint import print_saved_residuals

from dg2_jax.config import from_mapping
from dg2_jax.configs import dg2_base, dit_2b
from dg2_jax.scripts.command import command
from dg2_jax.training import step
from dg2_jax.training.goodput import step_flops
from dg2_jax.training.runs import DenoiserRunConfig
from dg2_jax.training.shapes import AbstractRun, abstract_run

_PEAK = flags.DEFINE_float("peak_tflops", 400.0, "The rate of a device in matrix products.")
_LINK = flags.DEFINE_float("link_gb_per_s", 50.0, "From one device to the others, each way.")
_EACH = flags.DEFINE_integer("images_per_device", 16, "The batch of a device.")

_GB = 1e9
_DEVICES = (8, 16, 32, 64, 128, 256)
_RUNS = {"354 M (configs/dg2_base.py)": dg2_base, "2 B (configs/dit_2b.py)": dit_2b}


def count(tree: object) -> int:
    """Bytes of a tree of shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def activation_bytes(run: AbstractRun) -> int:
    """Bytes that the forward pass of `run.batch` keeps for the backward pass."""

    def loss(params: object, batch: object) -> jax.Array:
        return run.loss(params, batch, jax.random.key(0))[0]  # type: ignore[arg-type]

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        print_saved_residuals(loss, run.state.params, run.batch)
    total = 0
    for line in text.getvalue().splitlines():
        kind = re.match(r"(\w+?)(\d+)\[([\d,]*)\]", line)
        if kind and "from the argument" not in line:
            sides = [int(n) for n in kind[3].split(",") if n]
            total += int(jnp.prod(jnp.array(sides, jnp.float32))) * max(1, int(kind[2]) // 8)
    return total


def table(name: str, config: DenoiserRunConfig) -> None:
    """Prints one model's table."""
    run = abstract_run(config, side=32, batch_size=1)
    weights = count(run.state.params)
    state = count(run.state)
    kept = activation_bytes(run)
    train = step.make_train_step(run.loss, dataclasses.replace(config, batch_size=1))
    flops = step_flops(train, run.state, run.batch) or 0.0
    each = _EACH.value
    seconds = flops * each / (1e12 * _PEAK.value)
    print(f"### {name}\n")
    print(
        f"{weights / 4 / 1e6:,.0f} M parameters; state (weights, average, optimiser) "
        f"{state / _GB:.1f} GB, gradient {weights / _GB:.1f} GB; an image takes "
        f"{flops / 1e12:.2f} TFLOP per step and keeps {kept / 1e6:,.0f} MB of activations. "
        f"{each} images per device: {1000 * seconds:.0f} ms of computation at "
        f"{_PEAK.value:.0f} TFLOP/s.\n"
    )
    print("| devices | DP: GB each | DP: GB sent | share | FSDP: GB each | FSDP: GB sent | share |")
    print("|---|---|---|---|---|---|---|")
    for n in _DEVICES:
        around = (n - 1) / n
        dp_memory = state + weights + kept * each
        dp_sent = 2 * around * weights
        fsdp_memory = (state + weights) / n + weights + kept * each
        fsdp_sent = 3 * around * weights
        cells = []
        for memory, sent in ((dp_memory, dp_sent), (fsdp_memory, fsdp_sent)):
            share = sent / (1e9 * _LINK.value) / seconds
            cells += [f"{memory / _GB:.1f}", f"{sent / _GB:.2f}", f"{share:.0%}"]
        print(f"| {n} | {' | '.join(cells)} |")
    print()


def main() -> None:
    """Prints the tables of both models."""
    for name, module in _RUNS.items():
        table(name, from_mapping(DenoiserRunConfig, module.get_config().to_dict()))


if __name__ == "__main__":
    command(main)
