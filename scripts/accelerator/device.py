"""The device itself: what it is, and how fast it multiplies large matrices."""

import importlib.metadata
import os
import platform
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dg2_jax.scripts.accelerator import timing
from dg2_jax.scripts.accelerator.options import Options
from dg2_jax.scripts.accelerator.peaks import PRECISIONS
from dg2_jax.scripts.accelerator.record import Record

_LIBRARIES = ("jax", "jaxlib", "flax", "numpy")
_SIDE, _SMALL = 8192, 512


def run(record: Record, options: Options) -> None:
    """A case that describes the machine, and one for each arithmetic."""
    record.case({}, described)
    for arithmetic in PRECISIONS:
        side = _SMALL if options.quick else _SIDE
        record.case({"arithmetic": arithmetic}, product, arithmetic, side, options.quick)


def described() -> dict[str, Any]:
    """Device, processor cores and versions."""
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    return {
        "device_kind": device.device_kind,
        "platform": device.platform,
        "platform_version": " ".join(device.client.platform_version.split()),
        "memory_limit_mib": stats.get("bytes_limit", 0) / 2**20,
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def product(arithmetic: str, side: int, once: bool) -> dict[str, float]:
    """TFLOP/s of a product of square matrices."""
    dtype, precision = PRECISIONS[arithmetic]
    a = jnp.asarray(np.random.default_rng(0).normal(size=(side, side)), dtype)
    with jax.default_matmul_precision(precision):
        program, _ = timing.compiled(jnp.matmul, a, a)
    return {"side": side, "tflops": 2e-12 * side**3 / timing.seconds(lambda: program(a, a), once)}
