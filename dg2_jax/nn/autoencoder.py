"""`AutoencoderKL`: images to latents and back.

The variational autoencoder of latent diffusion (Rombach et al., arXiv 2112.10752, section 3.1).
One class covers large and small networks: the defaults of `AutoencoderConfig` are Stable
Diffusion's, and `patch_size`, `downsample` and the decoder's own widths give the demo's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from dg2_jax import randomness
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.nn.vae_blocks import (
    AutoencoderStage,
    Features,
    MidBlock,
    conv3x3,
    depth_to_space,
    group_norm,
    space_to_depth,
)

LOGVAR_RANGE = (-30.0, 20.0)


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
        """KL(q || N(0, I)) in nats per image: ½ Σ (μ² + σ² - 1 - ln σ²) over its elements."""
        terms = jnp.square(self.mean) + jnp.exp(self.logvar) - 1.0 - self.logvar
        return 0.5 * jnp.sum(terms, axis=(1, 2, 3))


class Encoder(nnx.Module):
    """Pixels to the mean and log-variance of the latents, stacked along the channels.

    If the decoder doubles the pictures, the input is first averaged over 2 x 2 pixels.
    """

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.patch_size, self.scale = config.patch_size, config.decoder_scale
        self.conv_in = conv3x3(config.in_channels * config.patch_size**2, widths[0], rngs)
        self.down_blocks = nnx.List(
            AutoencoderStage(
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
            AutoencoderStage(
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
