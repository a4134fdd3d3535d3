"""How the denoisers of this project take the time and the text."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dg2_jax.nn.conditioning import Conditioning, KeysValues
from dg2_jax.nn.layers import sinusoidal_embedding
from dg2_jax.typing import Context, ContextMask, Time


class TextConditioned(nnx.Module):
    """A denoiser whose time embedding includes the mean text token, with a learnt null text.

    Args:
        context_dim: width of the text tokens.
        embed_dim: width of the embedding.
        rngs: source of the initial parameters.
    """

    def __init__(self, context_dim: int, embed_dim: int, *, rngs: nnx.Rngs):
        self.time1 = nnx.Linear(embed_dim, embed_dim, rngs=rngs)
        self.time2 = nnx.Linear(embed_dim, embed_dim, rngs=rngs)
        self.pooled = nnx.Linear(context_dim, embed_dim, rngs=rngs)
        self.null_token = nnx.Param(
            nnx.initializers.normal(0.02)(rngs.params(), (context_dim,), jnp.float32)
        )

    def null_context(self, batch: int, length: int = 1) -> tuple[Context, ContextMask]:
        """The trained "no text" condition: one learnt token, padded to `length`."""
        null = self.null_token[...]
        token = jnp.zeros((length, len(null)), jnp.float32).at[0].set(null)
        mask = jnp.arange(length) == 0
        return (
            jnp.broadcast_to(token, (batch, *token.shape)),
            jnp.broadcast_to(mask, (batch, length)),
        )

    def condition(
        self,
        context: Context,
        mask: ContextMask,
        projections: Sequence[Callable[[Context], KeysValues]],
    ) -> Conditioning:
        """All that the text contributes.

        Args:
            context: text tokens.
            mask: True where a token is real.
            projections: to keys and values, of the blocks in the order they run in.
        """
        weight = mask.astype(context.dtype)[:, :, None]
        mean = jnp.sum(context * weight, axis=1) / jnp.maximum(jnp.sum(weight, axis=1), 1.0)
        keys_values = tuple(project(context) for project in projections)
        return Conditioning(self.pooled(mean), mask, keys_values)

    def embed(self, t: Time, conditioning: Conditioning) -> Float[Array, "b e"]:
        """The activated embedding of time and text."""
        time = sinusoidal_embedding(t, self.time1.in_features)
        return nnx.silu(self.time2(nnx.silu(self.time1(time))) + conditioning.pooled)
