"""Times 3x3 convolutions on CPU, XLA's against products: python -m scripts.benchmark_convolution.

Forward, gradient of the input and gradient of the kernel, at shapes of this project's UNets. The
thresholds of `dg2_jax.nn.convolution` were chosen by it; run it again for another machine.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from dg2_jax.nn import convolution
from dg2_jax.scripts.command import command

_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often each is timed, in turns.", 1)

# batch, side, channels in and out: two of DiffusionGen2 at sampling, then configs/demo.py training
SHAPES = (
    (2, 4, 1024, 1024), (2, 8, 1024, 1024), (2, 16, 512, 512), (2, 32, 256, 256),
    (32, 4, 192, 192), (32, 8, 320, 128), (32, 16, 192, 64),
)  # fmt: skip


def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """XLA's convolution."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def parts(convolve: Callable) -> dict[str, Callable]:
    """The timed parts of a convolution, as functions of (x, kernel, gradient)."""
    return {
        "forward": lambda x, k, g: convolve(x, k),
        "input gradient": lambda x, k, g: jax.vjp(lambda x: convolve(x, k), x)[1](g),
        "kernel gradient": lambda x, k, g: jax.vjp(lambda k: convolve(x, k), k)[1](g),
    }


def measure(shape: tuple[int, int, int, int]) -> dict[str, tuple[float, float]]:
    """Medians in seconds of XLA's and ours by part; both compute the same."""
    batch, side, i, o = shape
    rng = np.random.default_rng(0)
    sizes = (batch, side, side, i), (3, 3, i, o), (batch, side, side, o)
    args = [jnp.asarray(rng.normal(size=size), jnp.float32) for size in sizes]
    medians = {}
    for part, ours in parts(convolution.convolve_on_cpu).items():
        runs = [jax.jit(parts(plain)[part]), jax.jit(ours)]
        a, b = (jax.tree.leaves(run(*args))[0] for run in runs)
        if not jnp.abs(a - b).max() < 1e-4 * jnp.abs(a).max():
            raise AssertionError(f"{part} of {shape}: results differ")
        times: list[list[float]] = [[], []]
        for _ in range(_ROUNDS.value):
            for run, taken in zip(runs, times, strict=True):
                start = time.perf_counter()
                jax.block_until_ready(run(*args))
                taken.append(time.perf_counter() - start)
        medians[part] = float(np.median(times[0])), float(np.median(times[1]))
    return medians


def main() -> None:
    """Prints a table."""
    names = list(parts(plain))
    print("| milliseconds, XLA's and ours | " + " | ".join(names) + " |")
    print("|---|" + "--:|" * len(names))
    for shape in SHAPES:
        batch, side, i, o = shape
        cells = [f"{1e3 * a:.1f}, {1e3 * b:.1f}" for a, b in measure(shape).values()]
        print(f"| {batch} x {side} x {side}, {i} to {o} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    command(main)
