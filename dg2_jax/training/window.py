"""Means of a run's metrics between two lines of its log, and the smoothed loss."""

import math
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from dg2_jax.training import goodput
from dg2_jax.training.config import LoopConfig, RunConfig
from dg2_jax.training.step import StepFn


class NonFiniteLossError(RuntimeError):
    """The loss or the gradient of a step was infinite or not a number."""


class Smoothed:
    """Bias-corrected exponential average: m ← β m + (1 - β) x, shown as m / (1 - βⁿ).

    The correction is that of Adam's moments (arXiv 1412.6980, section 3): after one value the
    average equals it.

    >>> average = Smoothed(0.9)
    >>> [round(average.add(x), 3) for x in (2.0, 4.0)]
    [2.0, 3.053]
    """

    def __init__(self, beta: float):
        self._beta, self._mean, self._count = beta, 0.0, 0

    def add(self, value: float) -> float:
        """Adds a value; returns the average."""
        self._mean = self._beta * self._mean + (1.0 - self._beta) * value
        self._count += 1
        return self.value

    @property
    def value(self) -> float:
        """The average; nan before the first value."""
        share = 1.0 - self._beta**self._count
        return self._mean / share if share else math.nan

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {"mean": self._mean, "count": self._count}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Restores the result of `to_dict`."""
        self._mean, self._count = float(values["mean"]), int(values["count"])


class Window:
    """Means of the metrics since the last line of the log, and the rate of steps."""

    def __init__(self, config: RunConfig):
        self._values: list[dict[str, float]] = []
        self._batch_size = config.batch_size
        self._dtype = config.compute_dtype
        self.smoothed = Smoothed(config.loop.loss_smoothing)
        self._flops: float | None = None  # of a step over the devices' peak: the seconds of 100%
        self.restart_clock()

    def measure_flops(self, loop: LoopConfig, step_fn: StepFn, *args: Any) -> None:
        """Determines the reference for the model FLOP/s utilisation (MFU)."""
        if loop.peak_tflops is None:
            return
        flops = goodput.step_flops(step_fn, *args)
        if flops is not None:
            peak = 1e12 * loop.peak_tflops or goodput.measured_peak(self._dtype)
            self._flops = flops / (peak * jax.device_count())

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Waits for the metrics of `step`; raises NonFiniteLossError if they are not finite."""
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(values[name]):
                raise NonFiniteLossError(
                    f"step {step}: {name} is {values[name]}; the step was not saved. Lower "
                    "optim.learning_rate, or look for bad records"
                )
        self.smoothed.add(values["loss"])
        self._values.append(values)
        self._clock_steps += 1

    def flush(self) -> dict[str, float]:
        """The means and the rate since the last call, and the smoothed loss."""
        seconds = time.perf_counter() - self._clock
        shown = {k: float(np.mean([v[k] for v in self._values])) for k in self._values[0]}
        shown["loss_smoothed"] = self.smoothed.value
        shown["learning_rate"] = self._values[-1]["learning_rate"]
        rate = self._clock_steps / seconds
        shown |= {"steps_per_second": rate, "images_per_second": rate * self._batch_size}
        if self._flops is not None:
            shown["mfu"] = rate * self._flops
        self._values = []
        self.restart_clock()
        return shown

    def restart_clock(self) -> None:
        """Excludes the time since the last step from the rate."""
        self._clock, self._clock_steps = time.perf_counter(), 0
