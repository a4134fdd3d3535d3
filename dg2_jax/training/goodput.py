"""Where the time of a run goes, and how much of the device's peak its steps use."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

BUCKETS = ("compile", "step", "input", "save", "validate", "sample")


class Goodput:
    """Seconds by bucket since the start; what belongs to no other bucket is `step`.

    The host's time is meant: steps run while it goes on, and it waits for them when it fetches
    their numbers, so that what is left over is theirs.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock, self._start = clock, clock()
        self._seconds = dict.fromkeys((b for b in BUCKETS if b != "step"), 0.0)

    @contextlib.contextmanager
    def measure(self, bucket: str) -> Iterator[None]:
        """Books the time of the block."""
        start = self._clock()
        try:
            yield
        finally:
            self._seconds[bucket] += self._clock() - start

    def shares(self) -> dict[str, float]:
        """The share of every bucket, `goodput/<bucket>`, which add up to 1."""
        total = max(self._clock() - self._start, 1e-9)
        step = total - sum(self._seconds.values())
        return {f"goodput/{b}": self._seconds.get(b, step) / total for b in BUCKETS}


def step_flops(step_fn: Any, *args: Any) -> float | None:
    """Floating-point operations of one call over all devices, by XLA's analysis of the program.

    It counts the body of a loop once, so that accumulated parts, and attention that goes head by
    head on CPU, are counted low. None where `step_fn` is not one compiled program. Nothing is
    compiled for it.
    """
    if not hasattr(step_fn, "lower"):
        return None
    cost = step_fn.lower(*args).cost_analysis()
    return float(cost["flops"]) if cost and "flops" in cost else None


def measured_peak(dtype: Any = jnp.float32, size: int = 1024, repeats: int = 8) -> float:
    """FLOP/s of the first local device in a product of two matrices of `size`², the best of some.

    A square product is what comes closest to a device's peak in practice. It counts 2·size³.
    """
    device = jax.local_devices()[0]
    a = jax.device_put(jnp.ones((size, size), dtype), device)
    product = jax.jit(lambda x: x @ x)
    product(a).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        product(a).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best
