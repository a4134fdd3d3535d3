"""Where a guided step of a UNet spends its time: python -m scripts.profile_step --model=base.

Runs the compiled step under JAX's profiler and adds up the operations of XLA by the JAX primitive
they come from (what a loop's body does is in the loop's line too). An operation that XLA fused
counts for the one that gives the fusion its name.
"""

import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx

from configs import demo
from dg2_jax import config as config_lib
from dg2_jax.model import ARCHITECTURES, architecture_name
from dg2_jax.nn.abstract import abstract
from dg2_jax.training.runs import DenoiserRunConfig
from scripts.benchmark_cases import dg2_config
from scripts.command import command

_MODEL = flags.DEFINE_enum("model", "base", ["demo", "toy", "base"], "Which configuration.")
_LARGEST = flags.DEFINE_integer("largest", 12, "How many single operations to show.", 0)
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (\S+) ([\w\-]+)\(")


def step(model: str) -> tuple[jax.stages.Compiled, tuple]:
    """The compiled evaluation of text and null text, and its arguments."""
    if model == "demo":
        run = config_lib.from_mapping(DenoiserRunConfig, demo.get_config())
        config: Any = run.denoiser
        side, length, width = 16, 24, config.context_dim
    else:
        config = dg2_config(model)
        side, length, width = 32, 77, config.n_embd
    module = ARCHITECTURES[architecture_name(config)].module
    graphdef, state = nnx.split(abstract(lambda rngs: module(config, rngs=rngs)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda a: jnp.asarray(0.02 * rng.normal(size=a.shape), a.dtype), nnx.to_pure_dict(state)
    )
    x = jnp.asarray(rng.normal(size=(2, side, side, config.in_channels)), jnp.float32)
    text = jnp.asarray(rng.normal(size=(2, length, width)), jnp.float32)

    def project(params: Any, *text: Any) -> Any:
        network: Any = nnx.merge(graphdef, params)
        return network.project_context(*text)

    args = params, x, jnp.full(2, 500), jax.jit(project)(params, text, jnp.ones((2, length), bool))
    return jax.jit(lambda p, *rest: nnx.merge(graphdef, p)(*rest)).lower(*args).compile(), args


def sources(text: str) -> dict[str, tuple[str, str]]:
    """The primitive and the shape of every instruction of a compiled program."""
    found = {}
    for line in text.splitlines():
        if match := _INSTRUCTION.match(line):
            name, shape, operation = match.groups()
            origin = re.search(r'op_name="[^"]*?([\w\-]+)"', line)
            found[name] = origin.group(1) if origin else operation, shape.split("{")[0]
    return found


def main() -> None:
    """Profiles, and prints two tables."""
    compiled, args = step(_MODEL.value)
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        took = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(compiled(*args))
        (path,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(path))
    origin = sources(str(compiled.as_text()))
    times: Counter[str] = Counter()
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                if operation := dict(event.stats).get("hlo_op"):
                    times[operation] += event.duration_ns / 1e6
    kinds: Counter[str] = Counter()
    for operation, milliseconds in times.items():
        kinds[origin.get(operation, (operation, ""))[0]] += milliseconds
    gflop = (compiled.cost_analysis() or {})["flops"] / 1e9
    print(f"{_MODEL.value}: {1e3 * took:.0f} ms, {gflop:.0f} GFLOP\n\n| from | ms |\n|---|--:|")
    for kind, milliseconds in kinds.most_common(10):
        print(f"| {kind} | {milliseconds:.0f} |")
    print("\n| operation | from | shape | ms |\n|---|---|---|--:|")
    for operation, milliseconds in times.most_common(_LARGEST.value):
        kind, shape = origin.get(operation, ("", ""))
        print(f"| {operation} | {kind} | {shape} | {milliseconds:.1f} |")


if __name__ == "__main__":
    command(main)
