"""Where a guided step of a UNet spends its time: python -m scripts.profile_step --model=base.

Runs the compiled step under JAX's profiler and adds up XLA's operations by the JAX primitive they
come from, then by primitive and shape of the result. Beside the time it gives the arithmetic in
products and convolutions, and its share of the rate of a large matrix product in the same minute. A
fused operation counts for the one that names the fusion.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from dg2_jax import config as config_lib
from dg2_jax.configs import demo
from dg2_jax.models.architectures import ARCHITECTURES
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.modules import split
from dg2_jax.scripts.benchmark_cases import dg2_config, matmul_peak, seconds
from dg2_jax.scripts.command import command
from dg2_jax.scripts.hlo import Operation, read
from dg2_jax.training.runs import DenoiserRunConfig

_MODEL = flags.DEFINE_enum("model", "base", ["demo", "toy", "base"], "Which configuration.")
_BATCH = flags.DEFINE_integer("batch", 2, "Latents; a guided step of one picture has 2.", 1)
_GRADIENTS = flags.DEFINE_boolean("gradients", False, "Of all weights too, as in training.")
_LARGEST = flags.DEFINE_integer("largest", 12, "Rows per table.", 0)


def step(model: str, batch: int = 2, gradients: bool = False) -> tuple[jax.stages.Compiled, tuple]:
    """The compiled evaluation of a network, and its arguments.

    A batch of 2 is a guided step, with text and null text. With gradients of all weights it is most
    of a training step.
    """
    if model == "demo":
        run = config_lib.from_mapping(DenoiserRunConfig, demo.get_config().to_dict())
        architecture, config = run.architecture, run.denoiser
        side, length = 16, 24
    else:
        architecture, config = ARCHITECTURES["dg2_unet"], dg2_config(model)
        side, length = 32, 77
    width = architecture.context_dim(config)
    network, shapes = split(abstract(lambda rngs: architecture.constructor(config, rngs=rngs)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: jnp.asarray(0.02 * rng.normal(size=a.shape), a.dtype), shapes)
    x = jnp.asarray(rng.normal(size=(batch, side, side, config.in_channels)), jnp.float32)
    text = jnp.asarray(rng.normal(size=(batch, length, width)), jnp.float32)

    def project(params: Any, *text: Any) -> Any:
        return network.bind(params).project_context(*text)

    def evaluate(params: Any, *rest: Any) -> Any:
        return network.bind(params)(*rest)

    def gradient(params: Any, *rest: Any) -> Any:
        return jax.grad(lambda params: jnp.mean(jnp.square(evaluate(params, *rest))))(params)

    texts = jax.jit(project)(params, text, jnp.ones((batch, length), bool))
    args = params, x, jnp.full(batch, 500), texts
    return jax.jit(gradient if gradients else evaluate).lower(*args).compile(), args


def measured(compiled: jax.stages.Compiled, args: tuple) -> list[tuple[Operation, float]]:
    """The operations of one run and their milliseconds."""
    known, _ = read(str(compiled.as_text()))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(compiled(*args))
        (path,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(path))
    events = (event for plane in data.planes for line in plane.lines for event in line.events)
    named = ((dict(event.stats).get("hlo_op"), event.duration_ns / 1e6) for event in events)
    return [(known[name], took) for name, took in named if name in known]


def table(
    runs: list[tuple[Operation, float]], by: Callable[[Operation], tuple[str, ...]], peak: float
) -> list[str]:
    """Rows in Markdown, the longest first: what `by` says, count, ms, GFLOP, share of the peak."""
    groups: defaultdict[tuple[str, ...], list[tuple[Operation, float]]] = defaultdict(list)
    for operation, took in runs:
        groups[by(operation)].append((operation, took))
    sums = [
        (sum(took for _, took in group), sum(o.gflop for o, _ in group), key, len(group))
        for key, group in groups.items()
    ]
    return [
        f"| {' | '.join(key)} | {count} | {took:.0f} | "
        + (f"{gflop:.1f} | {1e5 * gflop / took / peak:.0f}% |" if gflop else " | |")
        for took, gflop, key, count in sorted(sums, reverse=True)
    ]


def main() -> None:
    """Profiles, and prints two tables."""
    compiled, args = step(_MODEL.value, _BATCH.value, _GRADIENTS.value)
    took = min(seconds(lambda: jax.block_until_ready(compiled(*args))) for _ in range(5))
    peak, runs = matmul_peak(), measured(compiled, args)
    busy, gflop = sum(ms for _, ms in runs), sum(o.gflop for o, _ in runs)
    print(f"{_MODEL.value}: {1e3 * took:.0f} ms ({busy:.0f} ms in operations while profiled), ")
    print(f"{gflop:.1f} GFLOP in products and convolutions; peak {peak:.0f} GFLOP/s\n")
    print("| from | times | ms | GFLOP | of the peak |\n|---|--:|--:|--:|--:|")
    print(*table(runs, lambda o: (o.kind,), peak)[: _LARGEST.value], sep="\n")
    print("\n| from | shape of the result | times | ms | GFLOP | of the peak |")
    print("|---|---|--:|--:|--:|--:|")
    print(*table(runs, lambda o: (o.kind, o.shape), peak)[: _LARGEST.value], sep="\n")


if __name__ == "__main__":
    command(main)
