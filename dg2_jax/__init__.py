"""dg2_jax: text-conditioned latent diffusion in JAX and Flax.

from dg2_jax import Pipeline

Pipeline.load("demo")("a volcano at sunset").save("outputs")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dg2_jax.pictures.upscaling import upscale
    from dg2_jax.pipeline import Pipeline
    from dg2_jax.result import Preview, Result
    from dg2_jax.settings import Settings

__version__ = "0.2.0"
__all__ = ["Pipeline", "Preview", "Result", "Settings", "upscale"]

_HOMES = {
    "Pipeline": "pipeline",
    "Preview": "result",
    "Result": "result",
    "Settings": "settings",
    "upscale": "pictures.upscaling",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, so that importing one part stays light."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"dg2_jax.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'dg2_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
