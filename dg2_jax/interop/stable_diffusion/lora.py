"""LoRA files of others, added to a Stable Diffusion model: see `lora_file` for what is read."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float

from dg2_jax.interop.stable_diffusion.lora_file import (
    Factors,
    KernelPath,
    Kernels,
    LoraError,
    read,
)

if TYPE_CHECKING:
    from dg2_jax.interop.stable_diffusion.model import StableDiffusion

__all__ = ["LoraError", "adapted", "changed"]


def adapted(model: StableDiffusion, path: str | os.PathLike, weight: float) -> StableDiffusion:
    """The model with a LoRA file added: see `StableDiffusion.with_lora`."""
    if not math.isfinite(weight):
        raise ValueError(f"weight must be a finite number, got {weight}")
    lora = read(model.config, model.params, model.text.params, path)
    texts = zip(model.text.params, lora.texts, strict=True)
    text = dataclasses.replace(
        model.text, params=tuple(changed(params, factors, weight) for params, factors in texts)
    )
    return dataclasses.replace(
        model,
        name=f"{model.name}+{Path(path).stem}:{weight:g}",
        params=changed(model.params, lora.unet, weight),
        text=text,
    )


def changed(params: Any, factors: Mapping[KernelPath, Factors], weight: float) -> Any:
    """A network's parameters with the factors added; arrays that do not change are shared."""
    flat = traverse_util.flatten_dict(params)
    kernels = {path: flat[path] for path in factors}
    return traverse_util.unflatten_dict({**flat, **_added(kernels, dict(factors), weight)})


@jax.jit
def _added(
    kernels: Kernels, factors: dict[KernelPath, Factors], weight: Float[Array, ""]
) -> Kernels:
    def one(kernel: Array, factor: Factors) -> Array:
        change = jnp.matmul(factor.a, factor.b, precision=jax.lax.Precision.HIGHEST)
        total = kernel.astype(jnp.float32) + weight * factor.scale * change
        return total.astype(kernel.dtype)

    return {path: one(kernel, factors[path]) for path, kernel in kernels.items()}
