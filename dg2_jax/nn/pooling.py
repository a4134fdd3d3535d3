"""Sentence vectors from the vectors of tokens."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def mean_pool(hidden: Float[Array, "b l d"], mask: Bool[Array, "b l"]) -> Float[Array, "b d"]:
    """The sentence vector of Sentence-BERT (arXiv 1908.10084): mean of real tokens, normalised."""
    weight = mask[:, :, None].astype(hidden.dtype)
    mean = jnp.sum(hidden * weight, axis=1) / jnp.maximum(jnp.sum(weight, axis=1), 1.0)
    return l2_normalize(mean)


def l2_normalize(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Scales rows to length 1: x / |x|; zero stays zero."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
