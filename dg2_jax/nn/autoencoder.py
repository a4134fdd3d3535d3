"""`AutoencoderKL`: images to latents and back, from Stable Diffusion's network to a small fast one.

The variational autoencoder of latent diffusion (Rombach et al., arXiv 2112.10752, section 3.1).
One class covers both ends: the defaults of `AutoencoderConfig` are the Stable Diffusion network,
and `patch_size`, `downsample` and the decoder's own widths give the demo model.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from dg2_jax import randomness
from dg2_jax.nn.scaling import Scaling
from dg2_jax.nn.vae_blocks import (
    Features,
    MidBlock,
    Stage,
    conv3x3,
    depth_to_space,
    group_norm,
    space_to_depth,
)

DOWNSAMPLE_KINDS = ("asymmetric", "symmetric")
LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of an autoencoder; the defaults are Stable Diffusion's.

    Attributes:
        in_channels: Channels of the images that `encode` takes.
        out_channels: Channels of the images that `decode` returns.
        latent_channels: Channels of a latent.
        block_out_channels: Width of each resolution, finest first; each but the last halves it.
        layers_per_block: Residual blocks at each resolution of the encoder.
        decoder_block_out_channels: The decoder's widths, finest first; None: as the encoder's. Each
            entry beyond as many as the encoder has doubles the pictures: the encoder then works on
            the means of 2 x 2 pixels, or 4 x 4, and the decoder draws what these leave out.
        decoder_layers_per_block: Residual blocks at each resolution of the decoder; None: one more
            than the encoder's.
        norm_num_groups: Groups of every GroupNorm; divides every width.
        mid_block_add_attention: Self-attention at the lowest resolution.
        use_quant_conv: A 1x1 convolution behind the encoder.
        use_post_quant_conv: A 1x1 convolution in front of the decoder.
        scaling_factor: Latents are multiplied by it to reach about unit variance.
        shift_factor: Subtracted from latents before the scaling.
        patch_size: Pixels on a side that are folded into channels in front of the encoder and
            unfolded behind the decoder; 1 works on pixels.
        head_channels: With `patch_size` > 1, channels a pixel that the decoder unfolds to; a last
            3x3 convolution over pixels, which sees across the borders of the patches, turns them
            into `out_channels`. 0 unfolds to the image directly (faster, visible blocks).
        downsample: "asymmetric" (Stable Diffusion) or "symmetric" (no preferred direction).

    Raises:
        ValueError: For a value out of range, naming the field.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    decoder_block_out_channels: tuple[int, ...] | None = None
    decoder_layers_per_block: int | None = None
    norm_num_groups: int = 32
    mid_block_add_attention: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    scaling_factor: float = 0.18215
    shift_factor: float = 0.0
    patch_size: int = 1
    head_channels: int = 16
    downsample: str = "asymmetric"

    def __post_init__(self) -> None:
        positive = ["in_channels", "out_channels", "latent_channels", "layers_per_block"]
        positive += ["decoder_layers_per_block", "norm_num_groups", "patch_size"]
        for name in positive:
            value = getattr(self, name)
            if value is None and name == "decoder_layers_per_block":
                continue
            if not _is_int(value) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if not _is_int(self.head_channels) or self.head_channels < 0:
            raise ValueError(
                f"head_channels must be a non-negative integer, got {self.head_channels!r}"
            )
        self._check_widths("block_out_channels", self.block_out_channels)
        if self.decoder_block_out_channels is not None:
            self._check_widths("decoder_block_out_channels", self.decoder_block_out_channels)
            if len(self.decoder_block_out_channels) < len(self.block_out_channels):
                raise ValueError(
                    "decoder_block_out_channels must have at least as many entries as "
                    f"block_out_channels ({len(self.block_out_channels)}), "
                    f"got {self.decoder_block_out_channels}"
                )
        for name in ("mid_block_add_attention", "use_quant_conv", "use_post_quant_conv"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if not _is_real(self.scaling_factor) or not 0 < self.scaling_factor < float("inf"):
            raise ValueError(
                f"scaling_factor must be a positive number, got {self.scaling_factor!r}"
            )
        if not _is_real(self.shift_factor) or not abs(self.shift_factor) < float("inf"):
            raise ValueError(f"shift_factor must be a finite number, got {self.shift_factor!r}")
        if self.downsample not in DOWNSAMPLE_KINDS:
            raise ValueError(
                f"downsample must be one of {DOWNSAMPLE_KINDS}, got {self.downsample!r}"
            )

    def _check_widths(self, name: str, widths: Any) -> None:
        fine = isinstance(widths, tuple) and widths and all(_is_int(w) and w > 0 for w in widths)
        if not fine:
            raise ValueError(f"{name} must be a non-empty tuple of positive integers, got {widths}")
        if any(w % self.norm_num_groups for w in widths):
            raise ValueError(
                f"every entry of {name} must be a multiple of norm_num_groups "
                f"({self.norm_num_groups}), got {widths}"
            )

    @property
    def downsampling_factor(self) -> int:
        """Pixels on a side of one latent cell."""
        return self.patch_size * 2 ** (len(self.block_out_channels) - 1) * self.decoder_scale

    @property
    def decoder_scale(self) -> int:
        """Pixels on a side of a decoded picture for each of those that the encoder works on."""
        widths = self.decoder_block_out_channels or self.block_out_channels
        return 2 ** (len(widths) - len(self.block_out_channels))

    @property
    def scaling(self) -> Scaling:
        """The scaling of the latents."""
        return Scaling(self.scaling_factor, self.shift_factor)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AutoencoderConfig":
        """Builds a configuration from plain data, such as parsed JSON.

        Raises:
            ValueError: For an unknown key or a bad value, naming it.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"unknown autoencoder configuration keys {unknown}; known: {known}")
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON types) from which `from_dict` makes an equal configuration."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return _is_int(value) or isinstance(value, float)


class Posterior(NamedTuple):
    """q(z | x) = N(mean, exp(logvar)), elementwise; both (b, h, w, c), unscaled latents."""

    mean: Float[Array, "b h w c"]
    logvar: Float[Array, "b h w c"]

    def mode(self) -> Float[Array, "b h w c"]:
        """The most probable latent: the mean."""
        return self.mean

    def sample(self, key: PRNGKeyArray) -> Float[Array, "b h w c"]:
        """A latent: mean + exp(logvar / 2) ε, with ε ~ N(0, I) drawn from `key`."""
        noise = randomness.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(0.5 * self.logvar) * noise

    def kl(self) -> Float[Array, " b"]:
        """KL(q || N(0, I)) in nats for each image: ½ Σ (μ² + σ² - 1 - ln σ²) over its elements."""
        terms = jnp.square(self.mean) + jnp.exp(self.logvar) - 1.0 - self.logvar
        return 0.5 * jnp.sum(terms, axis=(1, 2, 3))


class Encoder(nnx.Module):
    """Pixels to the mean and log-variance of the latents, stacked along the channels.

    Where the decoder doubles the pictures, the means of 2 x 2 pixels.
    """

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.patch_size, self.scale = config.patch_size, config.decoder_scale
        self.conv_in = conv3x3(config.in_channels * config.patch_size**2, widths[0], rngs)
        self.down_blocks = nnx.List(
            Stage(
                widths[max(i - 1, 0)],
                width,
                config.layers_per_block,
                groups,
                downsample=config.downsample if i + 1 < len(widths) else None,
                rngs=rngs,
            )
            for i, width in enumerate(widths)
        )
        self.mid_block = MidBlock(widths[-1], groups, config.mid_block_add_attention, rngs=rngs)
        self.conv_norm_out = group_norm(widths[-1], groups, rngs)
        self.conv_out = conv3x3(widths[-1], 2 * config.latent_channels, rngs)

    def __call__(self, x: Features) -> Features:
        """(b, h, w, in_channels) -> (b, h/f, w/f, 2 * latent_channels)."""
        if self.scale > 1:
            x = nnx.avg_pool(x, (self.scale, self.scale), (self.scale, self.scale))
        x = self.conv_in(space_to_depth(x, self.patch_size))
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nnx.Module):
    """Latents to pixels."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        widths = (config.decoder_block_out_channels or config.block_out_channels)[::-1]
        layers = config.decoder_layers_per_block or config.layers_per_block + 1
        groups, patch = config.norm_num_groups, config.patch_size
        self.patch_size = patch
        self.conv_in = conv3x3(config.latent_channels, widths[0], rngs)
        self.mid_block = MidBlock(widths[0], groups, config.mid_block_add_attention, rngs=rngs)
        self.up_blocks = nnx.List(
            Stage(
                widths[max(i - 1, 0)],
                width,
                layers,
                groups,
                upsample=i + 1 < len(widths),
                rngs=rngs,
            )
            for i, width in enumerate(widths)
        )
        self.conv_norm_out = group_norm(widths[-1], groups, rngs)
        head = config.head_channels if patch > 1 else 0
        self.conv_out = conv3x3(widths[-1], (head or config.out_channels) * patch**2, rngs)
        self.conv_pixels = conv3x3(head, config.out_channels, rngs) if head else None

    def __call__(self, z: Features) -> Features:
        """(b, h, w, latent_channels) -> (b, h*f, w*f, out_channels)."""
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        x = self.conv_out(jax.nn.silu(self.conv_norm_out(x)))
        x = depth_to_space(x, self.patch_size)
        return x if self.conv_pixels is None else self.conv_pixels(jax.nn.silu(x))


class AutoencoderKL(nnx.Module):
    """Variational autoencoder between images in [-1, 1] and latents.

    `encode` and `decode` work on unscaled latents; `scale` and `unscale` go to and from the
    latents of about unit variance that diffusion works on:

        z = vae.scale(vae.encode(pixels).mode())
        pixels = vae.decode(vae.unscale(z))
    """

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        latent = config.latent_channels
        self.encoder = Encoder(config, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)
        self.quant_conv = (
            nnx.Conv(2 * latent, 2 * latent, (1, 1), rngs=rngs) if config.use_quant_conv else None
        )
        self.post_quant_conv = (
            nnx.Conv(latent, latent, (1, 1), rngs=rngs) if config.use_post_quant_conv else None
        )

    @property
    def downsampling_factor(self) -> int:
        """Pixels on a side of one latent cell."""
        return self.config.downsampling_factor

    def encode(self, pixels: Float[Array, "b h w c"]) -> Posterior:
        """The distribution of the unscaled latents of `pixels`.

        Args:
            pixels: (b, h, w, in_channels) in [-1, 1]; h and w multiples of `downsampling_factor`.

        Returns:
            Mean and log-variance (clipped to [-30, 20]), each (b, h/f, w/f, latent_channels).

        Raises:
            ValueError: If the height or width is not such a multiple.
        """
        factor = self.downsampling_factor
        if any(size == 0 or size % factor for size in pixels.shape[1:3]):
            raise ValueError(
                f"pixels must have a height and width that are multiples of {factor}, "
                f"got {pixels.shape[1:3]}"
            )
        moments = self.encoder(pixels)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        mean, logvar = jnp.split(moments, 2, axis=-1)
        return Posterior(mean, jnp.clip(logvar, *LOGVAR_RANGE))

    def decode(self, latents: Float[Array, "b h w c"]) -> Float[Array, "b H W d"]:
        """Pixels of unscaled latents: (b, h, w, latent_channels) -> (b, h*f, w*f, out_channels).

        The result is near [-1, 1] but not clipped.
        """
        if self.post_quant_conv is not None:
            latents = self.post_quant_conv(latents)
        return self.decoder(latents)

    def scale(self, latents: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The latents that diffusion works on; see `Scaling`."""
        return self.config.scaling.scale(latents)

    def unscale(self, latents: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The inverse of `scale`."""
        return self.config.scaling.unscale(latents)
