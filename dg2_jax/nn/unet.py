"""The text-conditioned UNet of this project.

Used in two calls, so that the text's keys and values are computed once per prompt and not at every
sampling step:

    conditioning = unet.project_context(context, mask)
    output = unet(x, t, conditioning)
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dg2_jax.nn.conditioning import Conditioning
from dg2_jax.nn.convolution import conv3x3
from dg2_jax.nn.layers import (
    NORM_EPS,
    KeysValues,
    ResidualBlock,
    TransformerBlock,
    checkpointed,
)
from dg2_jax.nn.text_conditioned import TextConditioned
from dg2_jax.nn.unet_config import UNetConfig
from dg2_jax.typing import Context, ContextMask, Latent, Time


class UNetBlock(nnx.Module):
    """A residual block and, where the level attends, a transformer block."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        attends: bool,
        config: UNetConfig,
        *,
        rngs: nnx.Rngs,
    ):
        self.residual = ResidualBlock(
            in_channels,
            out_channels,
            config.embed_dim,
            config.norm_groups,
            config.dropout,
            rngs=rngs,
        )
        self.transformer = (
            TransformerBlock(out_channels, config.head_dim, config.context_dim, rngs=rngs)
            if attends
            else None
        )

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        embedding: Float[Array, "b e"],
        keys_values: KeysValues | None,
        mask: Bool[Array, "b l"],
        key: PRNGKeyArray | None,
    ) -> Float[Array, "b h w o"]:
        """`keys_values` is this block's entry of `Conditioning.keys_values`, or None."""
        x = self.residual(x, embedding, key)
        if self.transformer is None or keys_values is None:
            return x
        b, h, w, c = x.shape
        return self.transformer(x.reshape(b, h * w, c), keys_values, mask).reshape(b, h, w, c)


class UNet(TextConditioned):
    """Blocks down, in the middle and up, with skips (Ronneberger et al., arXiv 1505.04597)."""

    def __init__(self, config: UNetConfig, *, rngs: nnx.Rngs):
        super().__init__(config.context_dim, config.embed_dim, rngs=rngs)
        self.config = config
        channels, attends = config.channels, config.attention_levels

        def block(i: int, o: int, a: bool) -> UNetBlock:
            return UNetBlock(i, o, a, config, rngs=rngs)

        self.conv_in = conv3x3(config.in_channels, channels[0], rngs)

        down, downsample, skips = [], [], [channels[0]]
        width = channels[0]
        for level, out in enumerate(channels):
            for _ in range(config.blocks_per_level):
                down.append(block(width, out, attends[level]))
                width = out
                skips.append(width)
            if level < len(channels) - 1:
                downsample.append(nnx.Conv(width, width, (3, 3), strides=(2, 2), rngs=rngs))
                skips.append(width)
        self.down = nnx.List(down)
        self.downsample = nnx.List(downsample)

        self.middle = nnx.List([block(width, width, attends[-1]), block(width, width, False)])

        up, upsample = [], []
        for level in reversed(range(len(channels))):
            for _ in range(config.blocks_per_level + 1):
                up.append(block(width + skips.pop(), channels[level], attends[level]))
                width = channels[level]
            if level > 0:
                upsample.append(conv3x3(width, width, rngs))
        self.up = nnx.List(up)
        self.upsample = nnx.List(upsample)

        self.norm_out = nnx.GroupNorm(
            width, num_groups=config.norm_groups, epsilon=NORM_EPS, rngs=rngs
        )
        zeros = nnx.initializers.zeros_init()
        self.conv_out = conv3x3(width, config.in_channels, rngs, kernel_init=zeros)

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
        blocks = (*self.down, *self.middle, *self.up)
        attending = [b.transformer for b in blocks if b.transformer is not None]
        return self.condition(context, mask, [t.project_context for t in attending])

    def __call__(
        self,
        x: Latent,
        t: Time,
        conditioning: Conditioning,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Latent:
        """The network's output for noisy latents at timesteps `t`.

        Args:
            x: (b, h, w, c), h and w divisible by 2^(levels - 1).
            t: training timesteps, integers in [0, T).
            conditioning: from `project_context`, same batch.
            dropout_key: turns dropout on (training only).
        """
        return self.evaluate(x, t, conditioning, dropout_key=dropout_key)[0]

    def deep_shape(self, latent_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of the second result of `evaluate`, for latents (b, h, w, c).

        Raises:
            ValueError: the network has a single level.
        """
        if len(self.config.channels) < 2:
            raise ValueError("the UNet must have two levels or more to have deep features")
        return (*latent_shape[:3], self.config.channels[1])

    def evaluate(
        self,
        x: Latent,
        t: Time,
        conditioning: Conditioning,
        deep: Float[Array, "b h w d"] | None = None,
        *,
        dropout_key: PRNGKeyArray | None = None,
    ) -> tuple[Latent, Float[Array, "b h w d"] | None]:
        """The output of a call, and the deep features, which the levels below the first pass up.

        Those levels do most of the work, and their result changes little from one sampling step to
        the next. Given as `deep`, the result of an earlier step replaces them, and only the first
        level is run (DeepCache, Ma et al., arXiv 2312.00858, section 3.2). The other arguments are
        those of a call. A network of a single level has no such features: None.
        """
        factor = self.config.latent_multiple
        if x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(f"latent height and width must be multiples of {factor}: {x.shape}")
        embedding = self.embed(t, conditioning)
        blocks = (*self.down, *self.middle, *self.up)
        entries = iter(conditioning.keys_values)
        keys_values = [None if b.transformer is None else next(entries) for b in blocks]
        per_level, last = self.config.blocks_per_level, len(self.config.channels) - 1
        middle = len(self.down)
        up = middle + len(self.middle)

        def run(i: int, h: Array) -> Array:
            key = None if dropout_key is None else jax.random.fold_in(dropout_key, i + 1)
            return checkpointed(blocks[i], self.config.remat, self.config.remat_policy)(
                h, embedding, keys_values[i], conditioning.mask, key
            )

        def below(level: int, h: Array) -> Array:
            """What the levels below one pass up to it."""
            h = run_level(level + 1, self.downsample[level](h))
            return self.upsample[last - level - 1](_nearest_upsample(h))

        def run_level(level: int, h: Array) -> Array:
            nonlocal deep
            skips = [h]
            for i in range(level * per_level, (level + 1) * per_level):
                h = run(i, h)
                skips.append(h)
            if level == last:
                for i in range(middle, up):
                    h = run(i, h)
            elif level > 0:
                h = below(level, h)
            else:
                h = deep = below(level, h) if deep is None else deep
            first = up + (last - level) * (per_level + 1)
            for i in range(first, first + per_level + 1):
                h = run(i, jnp.concatenate([h, skips.pop()], axis=-1))
            return h

        h = run_level(0, self.conv_in(x))
        return self.conv_out(nnx.silu(self.norm_out(h))), deep


def _nearest_upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
