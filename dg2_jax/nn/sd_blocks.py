"""Blocks of Stable Diffusion's UNet: residual blocks and transformers, in stages.

Attributes have the names of the published state dicts (`resnets.0.norm1`, `attn2.to_k`), so that
reading weights is a matter of spelling (`dg2_jax.interop.stable_diffusion`).
"""

from collections.abc import Callable, Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dg2_jax.nn.attention import dot_product_attention
from dg2_jax.nn.convolution import conv3x3
from dg2_jax.nn.layers import NORM_EPS, Linear, dropout
from dg2_jax.nn.transformer import layer_norm
from dg2_jax.typing import Context, ContextMask

TRANSFORMER_NORM_EPS = 1e-6  # of the GroupNorm before a transformer, independent of `norm_eps`

# Keys, values, and which of them may be attended to; None: all.
KeysValues = tuple[Float[Array, "b l _ _"], Float[Array, "b l _ _"], Bool[Array, "b l"] | None]

# Runs a block, with or without rematerialisation.
Run = Callable[..., Array]


def timestep_embedding(
    t: Array, dim: int, *, flip_sin_to_cos: bool = True, freq_shift: float = 0.0
) -> Float[Array, "b {dim}"]:
    """Sines and cosines of t · 10000^(-i/(half - freq_shift)), i = 0 … half-1, half = ⌊dim/2⌋.

    Args:
        t: (b,), of any numeric type.
        dim: width; the last entry is zero where it is odd.
        flip_sin_to_cos: cosines first.
        freq_shift: see the formula.
    """
    half = dim // 2
    # In float32 throughout, as in training: t times the last bit of a frequency is visible.
    exponent = np.float32(-np.log(10000.0)) * np.arange(half, dtype=np.float32)
    frequency = np.exp(exponent / np.float32(half - freq_shift))
    angle = t.astype(jnp.float32)[:, None] * frequency[None, :]
    parts = [jnp.sin(angle), jnp.cos(angle)]
    if flip_sin_to_cos:
        parts.reverse()
    return jnp.concatenate([*parts, jnp.zeros((len(t), dim - 2 * half), jnp.float32)], axis=-1)


def group_norm(channels: int, groups: int, epsilon: float, rngs: nnx.Rngs) -> nnx.GroupNorm:
    """GroupNorm with its statistics in two passes: E[x²] - E[x]² loses digits in float32."""
    return nnx.GroupNorm(
        channels, num_groups=groups, epsilon=epsilon, use_fast_variance=False, rngs=rngs
    )


class TimeEmbedding(nnx.Module):
    """Linear, SiLU, Linear; a condition of width `condition_dim` is first added to the input."""

    def __init__(self, i: int, o: int, *, condition_dim: int = 0, rngs: nnx.Rngs):
        self.linear_1 = nnx.Linear(i, o, rngs=rngs)
        self.linear_2 = nnx.Linear(o, o, rngs=rngs)
        self.cond_proj = (
            nnx.Linear(condition_dim, i, use_bias=False, rngs=rngs) if condition_dim else None
        )

    def __call__(
        self, x: Float[Array, "b i"], condition: Float[Array, "b _"] | None = None
    ) -> Float[Array, "b o"]:
        """The embedding, not activated."""
        if self.cond_proj is not None and condition is not None:
            x = x + self.cond_proj(condition)
        return self.linear_2(nnx.silu(self.linear_1(x)))


class ResnetBlock(nnx.Module):
    """GroupNorm, SiLU, conv, twice; the time embedding is added between the two."""

    def __init__(
        self,
        i: int,
        o: int,
        *,
        embed_dim: int,
        groups: int,
        epsilon: float,
        rate: float,
        rngs: nnx.Rngs,
    ):
        self.rate = rate
        self.norm1 = group_norm(i, groups, epsilon, rngs)
        self.conv1 = conv3x3(i, o, rngs)
        self.time_emb_proj = nnx.Linear(embed_dim, o, rngs=rngs)
        self.norm2 = group_norm(o, groups, epsilon, rngs)
        self.conv2 = conv3x3(o, o, rngs)
        self.conv_shortcut = Linear(i, o, rngs=rngs) if i != o else None

    def __call__(
        self,
        x: Float[Array, "b h w i"],
        embedding: Float[Array, "b e"],
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b h w o"]:
        """`embedding` is the activated time embedding; `key` turns dropout on."""
        h = self.conv1(nnx.silu(self.norm1(x)))
        h = h + self.time_emb_proj(embedding)[:, None, None, :]
        h = self.conv2(dropout(nnx.silu(self.norm2(h)), self.rate, key))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nnx.Module):
    """Multi-head attention: to the tokens themselves, or to precomputed keys and values."""

    def __init__(self, channels: int, context_dim: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.to_q = Linear(channels, channels, use_bias=False, rngs=rngs)
        self.to_k = Linear(context_dim, channels, use_bias=False, rngs=rngs)
        self.to_v = Linear(context_dim, channels, use_bias=False, rngs=rngs)
        self.to_out = Linear(channels, channels, rngs=rngs)

    def _split_heads(self, x: Array) -> Array:
        return x.reshape(*x.shape[:2], self.heads, -1)

    def project(
        self, context: Float[Array, "b l d"], mask: Bool[Array, "b l"] | None = None
    ) -> KeysValues:
        """Keys and values."""
        return self._split_heads(self.to_k(context)), self._split_heads(self.to_v(context)), mask

    def __call__(
        self, x: Float[Array, "b n c"], keys_values: KeysValues | None = None
    ) -> Float[Array, "b n c"]:
        """`keys_values` as of `project`; None attends to `x` itself."""
        k, v, mask = self.project(x) if keys_values is None else keys_values
        attended = dot_product_attention(self._split_heads(self.to_q(x)), k, v, mask)
        return self.to_out(attended.reshape(x.shape))


class FeedForward(nnx.Module):
    """GEGLU (Shazeer, arXiv 2002.05202) with a hidden width of 4 c."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.inner = Linear(channels, 8 * channels, rngs=rngs)
        self.outer = Linear(4 * channels, channels, rngs=rngs)

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Apply to every token."""
        value, gate = jnp.split(self.inner(x), 2, axis=-1)
        return self.outer(value * nnx.gelu(gate, approximate=False))


class TransformerBlock(nnx.Module):
    """Self-attention, attention to the text, feed-forward; each normalised first and residual."""

    def __init__(self, channels: int, context_dim: int, heads: int, *, rngs: nnx.Rngs):
        self.norm1 = layer_norm(channels, NORM_EPS, rngs)
        self.attn1 = Attention(channels, channels, heads, rngs=rngs)
        self.norm2 = layer_norm(channels, NORM_EPS, rngs)
        self.attn2 = Attention(channels, context_dim, heads, rngs=rngs)
        self.norm3 = layer_norm(channels, NORM_EPS, rngs)
        self.ff = FeedForward(channels, rngs=rngs)

    def __call__(self, x: Float[Array, "b n c"], keys_values: KeysValues) -> Float[Array, "b n c"]:
        """`keys_values` of the text, from `attn2.project`."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), keys_values)
        return x + self.ff(self.norm3(x))


class Transformer(nnx.Module):
    """Transformer blocks over the pixels, between two projections, plus the input."""

    def __init__(
        self,
        channels: int,
        context_dim: int,
        heads: int,
        depth: int,
        *,
        groups: int,
        rngs: nnx.Rngs,
    ):
        self.norm = group_norm(channels, groups, TRANSFORMER_NORM_EPS, rngs)
        # A 1x1 convolution or a product with each token: the same function either way.
        self.proj_in = Linear(channels, channels, rngs=rngs)
        self.transformer_blocks = nnx.List(
            TransformerBlock(channels, context_dim, heads, rngs=rngs) for _ in range(depth)
        )
        self.proj_out = Linear(channels, channels, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b h w c"], keys_values: tuple[KeysValues, ...]
    ) -> Float[Array, "b h w c"]:
        """`keys_values` has one entry for each block."""
        b, h, w, c = x.shape
        tokens = self.proj_in(self.norm(x).reshape(b, h * w, c))
        for block, entry in zip(self.transformer_blocks, keys_values, strict=True):
            tokens = block(tokens, entry)
        return x + self.proj_out(tokens).reshape(x.shape)


class SDStage(nnx.Module):
    """The blocks of one resolution: residual blocks, some followed by a transformer.

    Args:
        inputs: channels that come into each residual block, skips included.
        channels: output channels of every block.
        depths: of the transformers after the first, second, … residual block; further blocks have
            none.
        heads: of every attention.
        embed_dim: width of the time embedding.
        context_dim: width of the text tokens.
        groups: of every GroupNorm.
        epsilon: of the residual blocks' norms.
        rate: of dropout.
        resample: "down" ends with a convolution that halves the resolution, "up" with a doubling
            and a convolution.
        rngs: for the initial parameters.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        channels: int,
        depths: Sequence[int],
        heads: int,
        *,
        embed_dim: int,
        context_dim: int,
        groups: int,
        epsilon: float,
        rate: float = 0.0,
        resample: str | None = None,
        rngs: nnx.Rngs,
    ):
        self.resnets = nnx.List(
            ResnetBlock(
                i,
                channels,
                embed_dim=embed_dim,
                groups=groups,
                epsilon=epsilon,
                rate=rate,
                rngs=rngs,
            )
            for i in inputs
        )
        self.attentions = nnx.List(
            Transformer(channels, context_dim, heads, depth, groups=groups, rngs=rngs)
            for depth in depths
        )
        self.downsampler = (
            conv3x3(channels, channels, rngs, strides=2) if resample == "down" else None
        )
        self.upsampler = conv3x3(channels, channels, rngs) if resample == "up" else None

    def project_context(
        self, context: Context, mask: ContextMask | None = None
    ) -> Iterator[KeysValues]:
        """Keys and values of the text, for each transformer block in the order they run in."""
        for transformer in self.attentions:
            for block in transformer.transformer_blocks:
                yield block.attn2.project(context, mask)

    def layer(self, index: int, x: Array, run: Run, keys_values: Iterator[KeysValues]) -> Array:
        """One residual block, and the transformer after it if there is one.

        Args:
            index: of the residual block.
            x: (b, h, w, c), the skip already joined.
            run: `run(block, x, ...)`; passes residual blocks the time embedding unless something
                else is given.
            keys_values: the transformer takes its entries from it.
        """
        x = run(self.resnets[index], x)
        if index < len(self.attentions):
            transformer = self.attentions[index]
            entries = tuple(next(keys_values) for _ in transformer.transformer_blocks)
            x = run(transformer, x, entries)
        return x


def doubled(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b H W c"]:
    """Nearest-neighbour doubling to `size`, which may be one less than twice to match a skip."""
    h, w = x.shape[1:3]
    if size == (2 * h, 2 * w):
        return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    rows, columns = (np.arange(to) * of // to for of, to in ((h, size[0]), (w, size[1])))
    return jnp.take(jnp.take(x, rows, axis=1), columns, axis=2)
