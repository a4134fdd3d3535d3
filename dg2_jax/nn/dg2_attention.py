"""The attention blocks of DiffusionGen2's UNet, with the names of its published state dict."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dg2_jax.nn.attention import dot_product_attention
from dg2_jax.nn.layers import Linear
from dg2_jax.typing import Context

NORM_EPS = 1e-5  # torch's default; Flax's is 1e-6

KeysValues = tuple[Float[Array, "b l _ _"], Float[Array, "b l _ _"]]


def group_norm(channels: int, groups: int, rngs: nnx.Rngs) -> nnx.GroupNorm:
    """A GroupNorm with the epsilon that the weights were trained with."""
    return nnx.GroupNorm(channels, num_groups=groups, epsilon=NORM_EPS, rngs=rngs)


class SelfAttention(nnx.Module):
    """Multi-head self-attention; q, k and v of one head lie next to each other."""

    def __init__(self, channels: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.qkv = Linear(channels, 3 * channels, use_bias=False, rngs=rngs)
        self.wo = Linear(channels, channels, use_bias=False, rngs=rngs)

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Every position attends to every position."""
        qkv = self.qkv(x).reshape(*x.shape[:2], self.heads, -1)
        return self.wo(dot_product_attention(*jnp.split(qkv, 3, axis=-1)).reshape(x.shape))


class CrossAttention(nnx.Module):
    """Attention to the text; k and v of one head lie next to each other. Padding is not masked."""

    def __init__(self, channels: int, heads: int, context_dim: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.q = Linear(channels, channels, use_bias=False, rngs=rngs)
        self.kv = Linear(context_dim, 2 * channels, use_bias=False, rngs=rngs)
        self.wo = Linear(channels, channels, use_bias=False, rngs=rngs)

    def project_context(self, context: Context) -> KeysValues:
        """Keys and values of the text tokens."""
        kv = self.kv(context).reshape(*context.shape[:2], self.heads, -1)
        k, v = jnp.split(kv, 2, axis=-1)
        return k, v

    def __call__(self, x: Float[Array, "b n c"], kv: KeysValues) -> Float[Array, "b n c"]:
        """Every position attends to every token."""
        q = self.q(x).reshape(*x.shape[:2], self.heads, -1)
        return self.wo(dot_product_attention(q, *kv).reshape(x.shape))


class AttentionBlock(nnx.Module):
    """Self-attention, cross-attention and GEGLU between two 1x1 convolutions, plus the input."""

    def __init__(self, channels: int, groups: int, heads: int, context_dim: int, *, rngs: nnx.Rngs):
        def norm() -> nnx.LayerNorm:
            return nnx.LayerNorm(channels, epsilon=NORM_EPS, rngs=rngs)

        self.groupnorm = group_norm(channels, groups, rngs)
        self.conv_input = Linear(channels, channels, rngs=rngs)
        self.ln1 = norm()
        self.self_attention = SelfAttention(channels, heads, rngs=rngs)
        self.ln2 = norm()
        self.cross_attention = CrossAttention(channels, heads, context_dim, rngs=rngs)
        self.ln3 = norm()
        self.linear_geglu_1 = Linear(channels, 8 * channels, use_bias=False, rngs=rngs)
        self.linear_geglu_2 = Linear(4 * channels, channels, use_bias=False, rngs=rngs)
        self.conv_output = Linear(channels, channels, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], kv: KeysValues) -> Float[Array, "b h w c"]:
        """`kv` is this block's entry of the conditioning."""
        b, h, w, c = x.shape
        y = self.conv_input(self.groupnorm(x)).reshape(b, h * w, c)
        y = y + self.self_attention(self.ln1(y))
        y = y + self.cross_attention(self.ln2(y), kv)
        value, gate = jnp.split(self.linear_geglu_1(self.ln3(y)), 2, axis=-1)
        y = y + self.linear_geglu_2(value * nnx.gelu(gate, approximate=False))
        return x + self.conv_output(y.reshape(x.shape))
