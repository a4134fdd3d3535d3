"""Stable Diffusion's UNet (Rombach et al., arXiv 2112.10752), of versions 1.x, 2.x and XL.

Used in two calls, so that the text's keys and values are computed once per prompt:

    conditioning = unet.project_context(context)
    output = unet(x, t, conditioning)

XL (Podell et al., arXiv 2307.01952) also takes a pooled text vector and the picture's sizes; models
distilled for few steps take the guidance scale (Luo et al., arXiv 2310.04378). Both are given to
`project_context`, a ControlNet's residuals to the second call.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray, Real

from dg2_jax.nn.convolution import conv3x3
from dg2_jax.nn.layers import checkpointed
from dg2_jax.nn.sd_blocks import (
    KeysValues,
    ResnetBlock,
    Run,
    SDStage,
    TimeEmbedding,
    doubled,
    group_norm,
    timestep_embedding,
)
from dg2_jax.nn.sd_config import SDUNetConfig
from dg2_jax.typing import Context, ContextMask, Latent

Times = Real[Array, " b"]  # training timesteps, and levels between two of them


class Conditioning(NamedTuple):
    """The prompt as the UNet uses it; the first axis of every leaf is the batch."""

    keys_values: tuple[KeysValues, ...]  # one entry for each transformer block
    added: Float[Array, "b e"] | None  # XL: added to the time embedding
    guidance: Float[Array, "b c"] | None  # distilled models: embedding of the guidance scale


class Residuals(NamedTuple):
    """A ControlNet's additions to the UNet."""

    down: tuple[Float[Array, "b _ _ _"], ...]  # to each skip
    mid: Float[Array, "b h w c"]


class Encoder(nnx.Module):
    """The way down and the middle, with the time embedding; a ControlNet copies this part."""

    def __init__(self, config: SDUNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        widths = config.block_out_channels
        self.conv_in = conv3x3(config.in_channels, widths[0], rngs)
        self.time_embedding = TimeEmbedding(
            widths[0], config.embed_dim, condition_dim=config.time_cond_proj_dim, rngs=rngs
        )
        self.add_embedding = (
            TimeEmbedding(config.projection_class_embeddings_input_dim, config.embed_dim, rngs=rngs)
            if config.addition_time_embed_dim
            else None
        )
        self.down_blocks = nnx.List(
            self._stage(
                [widths[max(i - 1, 0)], *[width] * (config.layers_per_block[i] - 1)],
                i,
                config.down_depths[i],
                "down" if i + 1 < len(widths) else None,
                rngs,
            )
            for i, width in enumerate(widths)
        )
        last = len(widths) - 1
        self.mid_block = (
            self._stage([widths[-1]] * config.mid_layers, last, config.mid_depths, None, rngs)
            if config.mid_layers
            else None
        )

    def _stage(
        self,
        inputs: Sequence[int],
        level: int,
        depths: Sequence[int],
        resample: str | None,
        rngs: nnx.Rngs,
    ) -> SDStage:
        config = self.config
        return SDStage(
            inputs,
            config.block_out_channels[level],
            depths,
            config.num_attention_heads[level],
            embed_dim=config.embed_dim,
            context_dim=config.cross_attention_dim,
            groups=config.norm_num_groups,
            epsilon=config.norm_eps,
            rate=config.dropout,
            resample=resample,
            rngs=rngs,
        )

    def _stages(self) -> list[SDStage]:
        return [*self.down_blocks, *([] if self.mid_block is None else [self.mid_block])]

    def project_context(
        self,
        context: Context,
        mask: ContextMask | None = None,
        pooled: Float[Array, "b p"] | None = None,
        time_ids: Array | None = None,
        guidance: Float[Array, " b"] | None = None,
    ) -> Conditioning:
        """Everything that stays the same from one sampling step to the next.

        Args:
            context: (b, l, cross_attention_dim).
            mask: True where a token is attended to; None: everywhere, as the published models do,
                padding included.
            pooled: XL: the text vector.
            time_ids: XL: (b, 6): height and width in pixels of the original, top and left of the
                crop, height and width of the target.
            guidance: distilled models: the guidance scale; None is none. Others do not use it.

        Raises:
            ValueError: the network needs `pooled` and `time_ids`, and they are missing or of
                another width.
        """
        keys_values = tuple(
            entry for stage in self._stages() for entry in stage.project_context(context, mask)
        )
        embedding = None
        if self.config.time_cond_proj_dim and guidance is not None:
            embedding = guidance_embedding(guidance, self.config.time_cond_proj_dim)
        return Conditioning(keys_values, self._added(pooled, time_ids), embedding)

    def null_context(self, batch: int, length: int = 1) -> None:
        """None: no null context is learnt; the empty prompt's encoding or zeros replace it."""

    def _added(self, pooled: Array | None, time_ids: Array | None) -> Array | None:
        if self.add_embedding is None:
            return None
        if pooled is None or time_ids is None:
            raise ValueError("this UNet (XL) needs pooled and time_ids")
        config = self.config
        times = timestep_embedding(
            time_ids.reshape(-1),
            config.addition_time_embed_dim,
            flip_sin_to_cos=config.flip_sin_to_cos,
            freq_shift=config.freq_shift,
        )
        joined = jnp.concatenate([pooled, times.reshape(len(pooled), -1)], axis=-1)
        if joined.shape[1] != config.projection_class_embeddings_input_dim:
            raise ValueError(
                f"pooled of width {pooled.shape[1]} and {time_ids.shape[1]} time_ids make "
                f"{joined.shape[1]} numbers, this UNet takes "
                f"{config.projection_class_embeddings_input_dim}"
            )
        return self.add_embedding(joined)

    def _runner(self, t: Times, conditioning: Conditioning, key: PRNGKeyArray | None) -> Run:
        """Runs blocks by `SDStage.layer`, with the activated time embedding and dropout."""
        config = self.config
        time = timestep_embedding(
            t,
            config.block_out_channels[0],
            flip_sin_to_cos=config.flip_sin_to_cos,
            freq_shift=config.freq_shift,
        )
        embedding = self.time_embedding(time, conditioning.guidance)
        if conditioning.added is not None:
            embedding = embedding + conditioning.added
        embedding = nnx.silu(embedding)
        count = itertools.count()

        def run(block: nnx.Module, x: Array, *args: Any) -> Array:
            if isinstance(block, ResnetBlock):
                args = (embedding, None if key is None else jax.random.fold_in(key, next(count)))
            return checkpointed(block, config.remat, config.remat_policy)(x, *args)

        return run

    def _way_down(
        self, h: Array, run: Run, entries: Iterator[KeysValues]
    ) -> tuple[Array, list[Array]]:
        """The last level's output, and every skip, the input first."""
        skips = [h]
        for stage in self.down_blocks:
            for i in range(len(stage.resnets)):
                h = stage.layer(i, h, run, entries)
                skips.append(h)
            if stage.downsampler is not None:
                h = stage.downsampler(h)
                skips.append(h)
        return h, skips

    def _middle(self, h: Array, run: Run, entries: Iterator[KeysValues]) -> Array:
        if self.mid_block is not None:
            for i in range(len(self.mid_block.resnets)):
                h = self.mid_block.layer(i, h, run, entries)
        return h


class SDUNet(Encoder):
    """The UNet, NHWC; see the head of this file."""

    def __init__(self, config: SDUNetConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        widths = config.block_out_channels
        skips = [widths[0]]
        for i, (width, layers) in enumerate(zip(widths, config.layers_per_block, strict=True)):
            skips += [width] * (layers + (i + 1 < len(widths)))
        blocks, width = [], widths[-1]
        for depths, level in zip(config.up_depths, reversed(range(len(widths))), strict=True):
            inputs = []
            for _ in range(config.layers_per_block[level] + 1):
                inputs.append(width + skips.pop())
                width = widths[level]
            blocks.append(self._stage(inputs, level, depths, "up" if level else None, rngs))
        self.up_blocks = nnx.List(blocks)
        self.conv_norm_out = group_norm(width, config.norm_num_groups, config.norm_eps, rngs)
        self.conv_out = conv3x3(width, config.out_channels, rngs)

    def _stages(self) -> list[SDStage]:
        return [*super()._stages(), *self.up_blocks]

    def __call__(
        self,
        x: Latent,
        t: Times,
        conditioning: Conditioning,
        dropout_key: PRNGKeyArray | None = None,
        *,
        residuals: Residuals | None = None,
    ) -> Float[Array, "b h w o"]:
        """The network's output for noisy latents at timesteps `t`.

        Args:
            x: (b, h, w, in_channels), of any height and width.
            t: training timesteps, in [0, T).
            conditioning: from `project_context`, same batch.
            dropout_key: turns dropout on (training only).
            residuals: of a ControlNet for the same x and t.
        """
        run = self._runner(t, conditioning, dropout_key)
        entries = iter(conditioning.keys_values)
        h, skips = self._way_down(self.conv_in(x), run, entries)
        h = self._middle(h, run, entries)
        if residuals is not None:
            skips = [skip + more for skip, more in zip(skips, residuals.down, strict=True)]
            h = h + residuals.mid
        for stage in self.up_blocks:
            for i in range(len(stage.resnets)):
                h = stage.layer(i, jnp.concatenate([h, skips.pop()], axis=-1), run, entries)
            if stage.upsampler is not None:
                _, height, width, _ = skips[-1].shape
                h = stage.upsampler(doubled(h, (height, width)))
        return self.conv_out(nnx.silu(self.conv_norm_out(h)))


def guidance_embedding(scale: Float[Array, " b"], dim: int) -> Float[Array, "b {dim}"]:
    """Of the guidance scale w, for `time_cond_proj_dim`: sines, then cosines, of 1000 (w - 1) f.

    The frequencies f fall from 1 to 1/10000 (Luo et al., arXiv 2310.04378, section 4.1).
    """
    return timestep_embedding(1000.0 * (scale - 1.0), dim, flip_sin_to_cos=False, freq_shift=1.0)
