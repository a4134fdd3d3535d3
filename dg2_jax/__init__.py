"""dg2_jax: text-conditioned latent diffusion in JAX and Flax.

>>> from dg2_jax import Pipeline                # doctest: +SKIP
>>> Pipeline.load("demo")("a volcano at sunset").save("outputs")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dg2_jax.pipeline import Pipeline, Result, Settings

__all__ = ["Pipeline", "Result", "Settings"]


def __getattr__(name: str) -> Any:
    """Imports the pipeline on first use, so that `import dg2_jax.schedules` stays light."""
    if name in __all__:
        from dg2_jax import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'dg2_jax' has no attribute {name!r}")
