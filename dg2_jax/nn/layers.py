"""Layers that the denoisers share: time embedding, dropout, residual and transformer blocks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dg2_jax import randomness
from dg2_jax.nn.attention import dot_product_attention
from dg2_jax.nn.conditioning import KeysValues
from dg2_jax.nn.convolution import conv3x3
from dg2_jax.nn.precision import remat_policy
from dg2_jax.nn.product import dot_general

NORM_EPS = 1e-5
_zeros = nnx.initializers.zeros_init()


def sinusoidal_embedding(t: Int[Array, " b"], dim: int) -> Float[Array, "b {dim}"]:
    """The cos and sin of t · 10000^(-i/half), i = 0 … half-1 (arXiv 1706.03762)."""
    half = dim // 2
    exponent = jnp.arange(half, dtype=jnp.float32) / half
    frequency = jnp.exp(-jnp.log(jnp.float32(10000.0)) * exponent)
    angle = t.astype(jnp.float32)[:, None] * frequency[None, :]
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def dropout(x: Array, rate: float, key: PRNGKeyArray | None) -> Array:
    """Inverted dropout; the identity without a key (inference) or at rate 0."""
    if key is None or rate == 0.0:
        return x
    keep = randomness.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)


def checkpointed(
    module: nnx.Module, remat: bool, policy: str = "everything"
) -> Callable[..., Array]:
    """The module as a function, its activations recomputed in the backward pass if `remat`.

    `policy` says which, see `precision.remat_policy`.
    """
    if not remat:
        return module
    graphdef, params = nnx.split(module)
    run = jax.checkpoint(lambda p, *a: nnx.merge(graphdef, p)(*a), policy=remat_policy(policy))
    return lambda *args: run(params, *args)


class Linear(nnx.Linear):
    """nnx.Linear that takes all tokens as one matrix.

    The gradient of its kernel is then one product. XLA's CPU back end takes two to six times as
    long for a contraction over two or more axes.
    """

    def __init__(self, in_features: int, out_features: int, **options: Any):
        super().__init__(in_features, out_features, dot_general=dot_general, **options)

    def __call__(
        self, inputs: Float[Array, "*n i"], out_sharding: Any = None
    ) -> Float[Array, "*n o"]:
        """Apply to every token."""
        tokens = inputs.reshape(-1, inputs.shape[-1])
        return super().__call__(tokens, out_sharding).reshape(*inputs.shape[:-1], -1)


class ResidualBlock(nnx.Module):
    """GroupNorm, SiLU, conv, twice, with the condition as a scale and shift of the second norm.

    The last convolution starts at zero, so that a new block is the identity (or its 1x1 skip).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embed_dim: int,
        groups: int,
        rate: float,
        *,
        rngs: nnx.Rngs,
    ):
        self.rate = rate
        self.norm1 = nnx.GroupNorm(in_channels, num_groups=groups, epsilon=NORM_EPS, rngs=rngs)
        self.conv1 = conv3x3(in_channels, out_channels, rngs)
        self.embed = nnx.Linear(embed_dim, 2 * out_channels, rngs=rngs)
        self.norm2 = nnx.GroupNorm(out_channels, num_groups=groups, epsilon=NORM_EPS, rngs=rngs)
        self.conv2 = conv3x3(out_channels, out_channels, rngs, kernel_init=_zeros)
        self.skip = (
            nnx.Conv(in_channels, out_channels, (1, 1), rngs=rngs)
            if in_channels != out_channels
            else None
        )

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        embedding: Float[Array, "b e"],
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b h w o"]:
        """`embedding` is the activated time (and text) embedding; `key` turns dropout on."""
        h = self.conv1(nnx.silu(self.norm1(x)))
        scale, shift = jnp.split(self.embed(embedding)[:, None, None, :], 2, axis=-1)
        h = nnx.silu(self.norm2(h) * (1.0 + scale) + shift)
        h = self.conv2(dropout(h, self.rate, key))
        return h + (x if self.skip is None else self.skip(x))


class FeedForward(nnx.Module):
    """GEGLU (Shazeer, arXiv 2002.05202): (x W · gelu(x V)) W₂ with a hidden width of 4 c."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.inner = Linear(channels, 8 * channels, rngs=rngs)
        self.outer = Linear(4 * channels, channels, kernel_init=_zeros, rngs=rngs)

    def __call__(self, x: Float[Array, "b l c"]) -> Float[Array, "b l c"]:
        """Apply to every token."""
        value, gate = jnp.split(self.inner(x), 2, axis=-1)
        return self.outer(value * nnx.gelu(gate, approximate=True))


class TransformerBlock(nnx.Module):
    """Self-attention, cross-attention to the text, feed-forward; each normalised and residual."""

    def __init__(self, channels: int, head_dim: int, context_dim: int, *, rngs: nnx.Rngs):
        self.heads = channels // head_dim
        self.head_dim = head_dim
        self.norm1 = nnx.LayerNorm(channels, epsilon=NORM_EPS, rngs=rngs)
        self.qkv = Linear(channels, 3 * channels, use_bias=False, rngs=rngs)
        self.attended = Linear(channels, channels, kernel_init=_zeros, rngs=rngs)
        self.norm2 = nnx.LayerNorm(channels, epsilon=NORM_EPS, rngs=rngs)
        self.cross_q = Linear(channels, channels, use_bias=False, rngs=rngs)
        self.cross_kv = Linear(context_dim, 2 * channels, use_bias=False, rngs=rngs)
        self.crossed = Linear(channels, channels, kernel_init=_zeros, rngs=rngs)
        self.norm3 = nnx.LayerNorm(channels, epsilon=NORM_EPS, rngs=rngs)
        self.feed_forward = FeedForward(channels, rngs=rngs)

    def _split_heads(self, x: Array) -> Array:
        return x.reshape(*x.shape[:2], self.heads, self.head_dim)

    def project_context(self, context: Float[Array, "b l d"]) -> KeysValues:
        """Keys and values of the text: the same at every sampling step, so computed once."""
        k, v = jnp.split(self.cross_kv(context), 2, axis=-1)
        return self._split_heads(k), self._split_heads(v)

    def __call__(
        self, x: Float[Array, "b n c"], keys_values: KeysValues, mask: Bool[Array, "b l"]
    ) -> Float[Array, "b n c"]:
        """`mask` is True where a text token is real."""
        q, k, v = map(self._split_heads, jnp.split(self.qkv(self.norm1(x)), 3, axis=-1))
        x = x + self.attended(dot_product_attention(q, k, v).reshape(x.shape))
        q = self._split_heads(self.cross_q(self.norm2(x)))
        x = x + self.crossed(dot_product_attention(q, *keys_values, mask).reshape(x.shape))
        return x + self.feed_forward(self.norm3(x))
