"""A diffusion transformer.

Peebles and Xie, "Scalable Diffusion Models with Transformers" (arXiv 2212.09748): patches of the
latent as tokens, the time embedding as shift, scale and gate of every block (adaLN-zero); with
cross-attention to the text as in PixArt-alpha (Chen et al., arXiv 2310.00426). It is called like
the UNet:

    conditioning = dit.project_context(context, mask)
    output = dit(x, t, conditioning)
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dg2_jax.nn.attention import dot_product_attention
from dg2_jax.nn.conditioning import Conditioning
from dg2_jax.nn.dit_config import DiTConfig
from dg2_jax.nn.layers import NORM_EPS, KeysValues, Linear, checkpointed, dropout
from dg2_jax.nn.text_conditioned import TextConditioned
from dg2_jax.typing import Context, ContextMask, Latent, Time

_zeros = nnx.initializers.zeros_init()
_MAX_PERIOD = 10_000.0


def _normalise(x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
    """LayerNorm in float32, without gain and bias, which the modulation replaces."""
    x32 = x.astype(jnp.float32)
    mean = jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x32 - mean), axis=-1, keepdims=True)
    return ((x32 - mean) * jax.lax.rsqrt(variance + NORM_EPS)).astype(x.dtype)


def position_embedding(height: int, width: int, dim: int) -> Float[Array, "{height*width} {dim}"]:
    """Sines and cosines of a cell's row (first half) and column, as in arXiv 2212.09748."""
    quarter = dim // 4
    frequency = _MAX_PERIOD ** (-jnp.arange(quarter, dtype=jnp.float32) / quarter)

    def of(position: Array) -> Array:
        angle = position[:, None] * frequency[None, :]
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)

    rows = jnp.repeat(of(jnp.arange(height, dtype=jnp.float32)), width, axis=0)
    columns = jnp.tile(of(jnp.arange(width, dtype=jnp.float32)), (height, 1))
    return jnp.concatenate([rows, columns], axis=-1)


class DiTBlock(nnx.Module):
    """Self-attention and feed-forward under adaLN-zero, cross-attention to the text between."""

    def __init__(self, config: DiTConfig, *, rngs: nnx.Rngs):
        c, hidden = config.width, config.width * config.mlp_ratio
        self.head_dim, self.rate = config.head_dim, config.dropout
        self.modulation = nnx.Linear(config.embed_dim, 6 * c, kernel_init=_zeros, rngs=rngs)
        self.qkv = Linear(c, 3 * c, rngs=rngs)
        self.attended = Linear(c, c, rngs=rngs)
        self.cross_q = Linear(c, c, rngs=rngs)
        self.cross_kv = Linear(config.context_dim, 2 * c, rngs=rngs)
        self.crossed = Linear(c, c, kernel_init=_zeros, rngs=rngs)
        self.inner = Linear(c, hidden, rngs=rngs)
        self.outer = Linear(hidden, c, rngs=rngs)

    def _split_heads(self, x: Array) -> Array:
        return x.reshape(*x.shape[:2], -1, self.head_dim)

    def project_context(self, context: Context) -> KeysValues:
        """Keys and values of the text: the same at every sampling step, so computed once."""
        k, v = jnp.split(self.cross_kv(context), 2, axis=-1)
        return self._split_heads(k), self._split_heads(v)

    def __call__(
        self,
        x: Float[Array, "b n c"],
        embedding: Float[Array, "b e"],
        keys_values: KeysValues,
        mask: Bool[Array, "b l"],
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b n c"]:
        """`embedding` is the activated time and text embedding; `key` turns dropout on."""
        modulation = self.modulation(embedding)[:, None, :]
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(modulation, 6, axis=-1)
        h = self.qkv(_normalise(x) * (1.0 + scale1) + shift1)
        q, k, v = map(self._split_heads, jnp.split(h, 3, axis=-1))
        x = x + gate1 * self.attended(dot_product_attention(q, k, v).reshape(x.shape))
        q = self._split_heads(self.cross_q(_normalise(x)))
        x = x + self.crossed(dot_product_attention(q, *keys_values, mask).reshape(x.shape))
        h = nnx.gelu(self.inner(_normalise(x) * (1.0 + scale2) + shift2), approximate=True)
        return x + gate2 * self.outer(dropout(h, self.rate, key))


class DiT(TextConditioned):
    """See the module; a new network predicts zero: all branches and the last layer start there."""

    def __init__(self, config: DiTConfig, *, rngs: nnx.Rngs):
        super().__init__(config.context_dim, config.embed_dim, rngs=rngs)
        self.config = config
        p, c = config.patch_size, config.width
        self.patch = Linear(config.in_channels * p * p, c, rngs=rngs)
        self.blocks = nnx.List(DiTBlock(config, rngs=rngs) for _ in range(config.depth))
        self.modulation = nnx.Linear(config.embed_dim, 2 * c, kernel_init=_zeros, rngs=rngs)
        self.out = Linear(c, config.in_channels * p * p, kernel_init=_zeros, rngs=rngs)

    def project_context(
        self,
        context: Context,
        mask: ContextMask,
        pooled: Float[Array, "b p"] | None = None,
        time_ids: Float[Array, "b i"] | None = None,
    ) -> Conditioning:
        """All that the text contributes, computed once for every prompt.

        Args:
            context: text tokens.
            mask: True where a token is real.
            pooled: not used: the mean token stands for it.
            time_ids: not used.
        """
        return self.condition(context, mask, [block.project_context for block in self.blocks])

    def __call__(
        self,
        x: Latent,
        t: Time,
        conditioning: Conditioning,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Latent:
        """The network's output for noisy latents at timesteps `t`.

        Args:
            x: (b, h, w, c), h and w divisible by `patch_size`.
            t: training timesteps, integers in [0, T).
            conditioning: from `project_context`, same batch.
            dropout_key: turns dropout on (training only).

        Raises:
            ValueError: the latent's sides are not multiples of `patch_size`.
        """
        b, height, width, c = x.shape
        p = self.config.patch_size
        if height % p or width % p:
            raise ValueError(f"latent height and width must be multiples of {p}: {x.shape}")
        rows, columns = height // p, width // p
        patches = x.reshape(b, rows, p, columns, p, c).swapaxes(2, 3)
        h = self.patch(patches.reshape(b, rows * columns, p * p * c))
        h = h + position_embedding(rows, columns, self.config.width)[None].astype(h.dtype)
        embedding = self.embed(t, conditioning)
        for i, (block, kv) in enumerate(zip(self.blocks, conditioning.keys_values, strict=True)):
            key = None if dropout_key is None else jax.random.fold_in(dropout_key, i)
            run = checkpointed(block, self.config.remat, self.config.remat_policy)
            h = run(h, embedding, kv, conditioning.mask, key)
        shift, scale = jnp.split(self.modulation(embedding)[:, None, :], 2, axis=-1)
        h = self.out(_normalise(h) * (1.0 + scale) + shift)
        return h.reshape(b, rows, columns, p, p, c).swapaxes(2, 3).reshape(x.shape)
