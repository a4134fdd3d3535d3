"""Building blocks of the variational autoencoder: residual, attention, re-sampling, patch layers.

Attributes have the names of Hugging Face checkpoints, so that reading one is a matter of spelling
(`dg2_jax.interop.diffusers_vae`).
"""

import itertools

import einops
import jax
from flax import nnx
from jaxtyping import Array, Float

from dg2_jax.nn.attention import dot_product_attention
from dg2_jax.nn.convolution import conv3x3

NORM_EPSILON = 1e-6  # of the Stable Diffusion autoencoder; its UNet uses 1e-5

Features = Float[Array, "b _ _ _"]  # (batch, height, width, channels)


def space_to_depth(x: Features, patch: int) -> Features:
    """Folds each `patch` x `patch` cell into channels: (b, h, w, c) -> (b, h/p, w/p, p*p*c)."""
    return einops.rearrange(x, "b (h p) (w q) c -> b h w (p q c)", p=patch, q=patch)


def depth_to_space(x: Features, patch: int) -> Features:
    """The inverse of `space_to_depth`: (b, h, w, p*p*c) -> (b, h*p, w*p, c)."""
    return einops.rearrange(x, "b h w (p q c) -> b (h p) (w q) c", p=patch, q=patch)


def group_norm(channels: int, groups: int, rngs: nnx.Rngs) -> nnx.GroupNorm:
    """GroupNorm with the autoencoder's epsilon, statistics in two passes for accuracy."""
    return nnx.GroupNorm(
        channels, num_groups=groups, epsilon=NORM_EPSILON, use_fast_variance=False, rngs=rngs
    )


class ResnetBlock(nnx.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); a 1x1 convolution on x where widths differ."""

    def __init__(self, in_channels: int, out_channels: int, groups: int, *, rngs: nnx.Rngs):
        self.norm1 = group_norm(in_channels, groups, rngs)
        self.conv1 = conv3x3(in_channels, out_channels, rngs)
        self.norm2 = group_norm(out_channels, groups, rngs)
        self.conv2 = conv3x3(out_channels, out_channels, rngs)
        self.conv_shortcut = (
            nnx.Conv(in_channels, out_channels, (1, 1), rngs=rngs)
            if in_channels != out_channels
            else None
        )

    def __call__(self, x: Features) -> Features:
        """(b, h, w, in_channels) -> (b, h, w, out_channels)."""
        h = self.conv1(jax.nn.silu(self.norm1(x)))
        h = self.conv2(jax.nn.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class AttentionBlock(nnx.Module):
    """Single-head self-attention over all positions, residual."""

    def __init__(self, channels: int, groups: int, *, rngs: nnx.Rngs):
        self.group_norm = group_norm(channels, groups, rngs)
        self.to_q = nnx.Linear(channels, channels, rngs=rngs)
        self.to_k = nnx.Linear(channels, channels, rngs=rngs)
        self.to_v = nnx.Linear(channels, channels, rngs=rngs)
        self.to_out = nnx.Linear(channels, channels, rngs=rngs)

    def __call__(self, x: Features) -> Features:
        """Same shape out as in."""
        b, h, w, c = x.shape
        tokens = self.group_norm(x).reshape(b, h * w, c)
        q, k, v = (proj(tokens)[:, :, None] for proj in (self.to_q, self.to_k, self.to_v))
        attended = dot_product_attention(q, k, v)[:, :, 0]
        return x + self.to_out(attended).reshape(x.shape)


class Downsample(nnx.Module):
    """Halves height and width.

    `asymmetric`: pad one row below and one column to the right, then a 3x3 convolution of stride 2
    (Stable Diffusion). Its output cells are not centred on the 2x2 pixels they stand for, so it
    commutes with no rotation or flip, for any kernel.
    `symmetric`: 2x2 mean, then a 3x3 convolution: D(v x) = v D(x) for a quarter turn or flip v
    whenever the kernel is unchanged by v.
    """

    def __init__(self, channels: int, kind: str, *, rngs: nnx.Rngs):
        self.asymmetric = kind == "asymmetric"
        strides, padding = (2, ((0, 1), (0, 1))) if self.asymmetric else (1, 1)
        self.conv = nnx.Conv(
            channels, channels, (3, 3), strides=strides, padding=padding, rngs=rngs
        )

    def __call__(self, x: Features) -> Features:
        """(b, h, w, c) -> (b, h/2, w/2, c)."""
        if not self.asymmetric:
            x = einops.reduce(x, "b (h p) (w q) c -> b h w c", "mean", p=2, q=2)
        return self.conv(x)


class Upsample(nnx.Module):
    """Doubles height and width: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.conv = conv3x3(channels, channels, rngs)

    def __call__(self, x: Features) -> Features:
        """(b, h, w, c) -> (b, 2h, 2w, c)."""
        return self.conv(einops.repeat(x, "b h w c -> b (h p) (w q) c", p=2, q=2))


class AutoencoderStage(nnx.Module):
    """Residual blocks of one width, then at most one re-sampling layer."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        layers: int,
        groups: int,
        *,
        downsample: str | None = None,
        upsample: bool = False,
        rngs: nnx.Rngs,
    ):
        widths = [in_channels] + [out_channels] * layers
        self.resnets = nnx.List(
            ResnetBlock(i, o, groups, rngs=rngs) for i, o in itertools.pairwise(widths)
        )
        self.downsampler = Downsample(out_channels, downsample, rngs=rngs) if downsample else None
        self.upsampler = Upsample(out_channels, rngs=rngs) if upsample else None

    def __call__(self, x: Features) -> Features:
        """The blocks, then the re-sampling."""
        for resnet in self.resnets:
            x = resnet(x)
        if self.downsampler is not None:
            x = self.downsampler(x)
        if self.upsampler is not None:
            x = self.upsampler(x)
        return x


class MidBlock(nnx.Module):
    """Residual block, optional attention, residual block, at the lowest resolution."""

    def __init__(self, channels: int, groups: int, attention: bool, *, rngs: nnx.Rngs):
        self.resnets = nnx.List(ResnetBlock(channels, channels, groups, rngs=rngs) for _ in "12")
        self.attention = AttentionBlock(channels, groups, rngs=rngs) if attention else None

    def __call__(self, x: Features) -> Features:
        """Same shape out as in."""
        x = self.resnets[0](x)
        if self.attention is not None:
            x = self.attention(x)
        return self.resnets[1](x)
