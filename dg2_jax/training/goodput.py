"""Where the time of a run goes, and what share of the device's peak its steps reach."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

BUCKETS = ("compile", "step", "input", "save", "validate", "sample")


class Goodput:
    """Seconds by bucket since the start; time in no other bucket counts as `step`.

    This is the host's time. Steps run asynchronously and the host waits for them when it fetches
    their metrics, so the remaining time is theirs.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock, self._start = clock, clock()
        self._seconds = dict.fromkeys((b for b in BUCKETS if b != "step"), 0.0)

    @contextlib.contextmanager
    def measure(self, bucket: str) -> Iterator[None]:
        """Adds the time of the block to a bucket."""
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

    It counts the body of a loop once, so it underestimates gradient accumulation, and attention
    that goes head by head on CPU. None if `step_fn` is not a single compiled program. Nothing is
    compiled.
    """
    if not hasattr(step_fn, "lower"):
        return None
    cost = step_fn.lower(*args).cost_analysis()
    return float(cost["flops"]) if cost and "flops" in cost else None


def measured_peak(dtype: Any = jnp.float32, size: int = 1024, repeats: int = 8) -> float:
    """FLOP/s of the first local device in a product of square matrices, the best of `repeats`.

    A product of square matrices comes closest to a device's peak in practice; it is 2·size³ FLOP.
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
