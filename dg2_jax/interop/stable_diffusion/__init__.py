"""Stable Diffusion 1.x, 2.x and XL, from the files that people hold in their hands.

model = load("folder-or-hub-id-or-file.safetensors")
context, pooled = model.encode(["a lake at dawn"])
output = model.apply(model.params, x, t, context, pooled)
pixels = model.vae.decode(model.vae.unscale(latents))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dg2_jax.interop.stable_diffusion.controlnet import load_controlnet
    from dg2_jax.interop.stable_diffusion.loading import load, read_parts
    from dg2_jax.interop.stable_diffusion.model import StableDiffusion
    from dg2_jax.interop.stable_diffusion.single_file import FileOptions

__all__ = ["FileOptions", "StableDiffusion", "load", "load_controlnet", "read_parts"]

_HOMES = {
    "FileOptions": "single_file",
    "StableDiffusion": "model",
    "load": "loading",
    "load_controlnet": "controlnet",
    "read_parts": "loading",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use: most of them bring Flax."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
