"""DiffusionGen2's UNet, exactly as trained; called like `nn.unet.UNet`.

Attributes have the names of the published state dict (`encoders.0.attention_blocks.0.ln1`), so
importing weights is only a matter of layout.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from dg2_jax.nn.convolution import Doubling, conv3x3
from dg2_jax.nn.dg2_attention import AttentionBlock, KeysValues, group_norm
from dg2_jax.nn.dg2_config import DG2UNetConfig
from dg2_jax.nn.layers import Linear, checkpointed, dropout
from dg2_jax.typing import Context, ContextMask, Latent, Time

_HALF = math.sqrt(0.5)

Conditioning = tuple[KeysValues, ...]  # one entry per attention block


class NormConv(nnx.Module):
    """GroupNorm, SiLU, 3x3 convolution, dropout."""

    def __init__(self, i: int, o: int, config: DG2UNetConfig, *, rngs: nnx.Rngs):
        self.rate = config.dropout
        self.norm = group_norm(i, config.n_groups, rngs)
        self.conv = conv3x3(i, o, rngs)

    def __call__(
        self, x: Float[Array, "b h w i"], key: PRNGKeyArray | None = None
    ) -> Float[Array, "b h w o"]:
        """`key` turns dropout on."""
        return dropout(self.conv(nnx.silu(self.norm(x))), self.rate, key)


class DG2Stage(nnx.Module):
    """The residual and attention blocks of one resolution, and the layers into or out of it.

    Args:
        i: channels of its input.
        o: channels of its blocks.
        kind: "encoder" (ends by halving the resolution), "bottleneck", or "decoder" (begins by
            doubling it and joining the skip).
        config: of the UNet.
        rngs: for the initial parameters.
    """

    def __init__(self, i: int, o: int, kind: str, config: DG2UNetConfig, *, rngs: nnx.Rngs):
        n, first = config.n_layers, i if kind == "encoder" else o
        if kind == "decoder":
            self.upsample = Doubling(i, i, rngs)
            self.skip_conv = conv3x3(2 * i, o, rngs)
        # The first of every pair, then the second of every pair: the order of the state dict.
        self.resnet_layers = nnx.List(
            [NormConv(first if j == 0 else o, o, config, rngs=rngs) for j in range(2 * n)]
        )
        sizes = o, config.n_groups, config.n_heads, config.n_embd
        self.attention_blocks = nnx.List([AttentionBlock(*sizes, rngs=rngs) for _ in range(n)])
        time_width = config.t_embd * config.t_embd_scale
        self.t_embd_linear = nnx.Linear(time_width, o, use_bias=False, rngs=rngs)
        if kind == "encoder":
            self.residual_conv = Linear(i, o, rngs=rngs)
            self.downsample = conv3x3(o, o, rngs, strides=2)

    def enter(self, x: Array, skip: Array) -> Array:
        """Double the resolution and join the skip (decoders)."""
        return self.skip_conv(jnp.concatenate([self.upsample(x), skip], axis=-1))

    def __call__(
        self,
        x: Float[Array, "b h w i"],
        time: Float[Array, "b e"],
        kvs: Conditioning,
        key: PRNGKeyArray | None,
    ) -> Float[Array, "b h w o"]:
        """The blocks; `kvs` are this stage's entries of the conditioning."""
        n = len(self.attention_blocks)
        keys = [None] * (2 * n) if key is None else list(jax.random.split(key, 2 * n))
        shift = self.t_embd_linear(time)[:, None, None, :]
        for j, attention in enumerate(self.attention_blocks):
            projected = j == 0 and hasattr(self, "residual_conv")
            residual = self.residual_conv(x) if projected else x
            x = (self.resnet_layers[j](x, keys[j]) + shift + residual) * _HALF
            h = self.resnet_layers[n + j](x, keys[n + j])
            x = (attention(h, kvs[j]) + x) * _HALF
        return x


class TimeMLP(nnx.Module):
    """Linear, SiLU, Linear."""

    def __init__(self, i: int, o: int, *, rngs: nnx.Rngs):
        self.linear1 = nnx.Linear(i, o, rngs=rngs)
        self.linear2 = nnx.Linear(o, o, rngs=rngs)

    def __call__(self, x: Float[Array, "b i"]) -> Float[Array, "b o"]:
        """The embedding that every stage computes its shift from."""
        return self.linear2(nnx.silu(self.linear1(x)))


class DG2UNet(nnx.Module):
    """The published UNet, NHWC.

    Used in two calls: `kv = unet.project_context(context)`, then `unet(x, t, kv)` at every step.
    """

    def __init__(self, config: DG2UNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        widths = config.channels
        if config.legacy_time_table:
            # Flat, because weight decay applies to everything with two or more axes.
            shape = (config.num_train_timesteps * config.t_embd,)
            self.time_table = nnx.Param(jnp.zeros(shape, jnp.float32))
        self.time_mlp = TimeMLP(config.t_embd, config.t_embd * config.t_embd_scale, rngs=rngs)
        self.in_conv = conv3x3(config.in_channels, widths[0], rngs)

        def stages(pairs, kind):
            return nnx.List([DG2Stage(i, o, kind, config, rngs=rngs) for i, o in pairs])

        steps = list(itertools.pairwise(widths))
        self.encoders = stages(steps, "encoder")
        self.bottle_necks = stages([(widths[-1], widths[-1])] * config.n_bn, "bottleneck")
        self.decoders = stages([(o, i) for i, o in reversed(steps)], "decoder")
        self.final_layer = NormConv(widths[0], config.in_channels, config, rngs=rngs)

    def _time_features(self, t: Time) -> Float[Array, "b e"]:
        if self.config.legacy_time_table:
            table = jax.lax.stop_gradient(self.time_table[...])
            return table.reshape(self.config.num_train_timesteps, -1)[t]
        exponent = jnp.arange(0, self.config.t_embd, 2, dtype=jnp.float32) / self.config.t_embd
        angle = t.astype(jnp.float32)[:, None] * jnp.exp(-math.log(10000.0) * exponent)[None, :]
        return jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(len(t), -1)

    def null_context(self, batch: int, length: int = 1) -> None:
        """None: there is no learnt null context; the empty prompt's encoding stands for it."""

    def project_context(
        self,
        context: Context,
        mask: ContextMask | None = None,
        pooled: Float[Array, "b p"] | None = None,
        time_ids: Float[Array, "b i"] | None = None,
    ) -> Conditioning:
        """Keys and values of the text for every attention block, computed once for every prompt.

        Args:
            context: (b, l, n_embd).
            mask: not used: the published model attends to padding too.
            pooled: not used.
            time_ids: not used.
        """
        return tuple(
            block.cross_attention.project_context(context)
            for stage in (*self.encoders, *self.bottle_necks, *self.decoders)
            for block in stage.attention_blocks
        )

    def __call__(
        self,
        x: Latent,
        t: Time,
        conditioning: Conditioning,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Latent:
        """The network's output for noisy latents at timesteps `t`.

        Args:
            x: (b, h, w, c), h and w divisible by 2^(len(channels) - 1).
            t: training timesteps, integers in [0, num_train_timesteps).
            conditioning: from `project_context`, same batch.
            dropout_key: turns dropout on (training only).

        Raises:
            ValueError: the height or width cannot be halved often enough.
        """
        factor = self.config.latent_multiple
        if x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(f"latent height and width must be multiples of {factor}: {x.shape}")
        time = self.time_mlp(self._time_features(t))
        n = self.config.n_layers
        done = 0

        def run(stage: DG2Stage, h: Array) -> Array:
            nonlocal done
            key = None if dropout_key is None else jax.random.fold_in(dropout_key, done)
            done += 1
            kvs = conditioning[(done - 1) * n : done * n]
            return checkpointed(stage, self.config.remat, self.config.remat_policy)(
                h, time, kvs, key
            )

        h = self.in_conv(x)
        skips = []
        for stage in self.encoders:
            h = run(stage, h)
            skips.append(h)
            h = stage.downsample(h)
        for stage in self.bottle_necks:
            h = run(stage, h)
        for stage in self.decoders:
            h = run(stage, stage.enter(h, skips.pop()))
        return self.final_layer(h)
