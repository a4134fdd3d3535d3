"""`TinyAutoencoder`: a small fast replacement for Stable Diffusion's autoencoder, known as TAESD.

It has only convolutions and ReLU, distilled to produce the latents of the large one; for previews,
and as a fast decoder where some loss of detail is acceptable.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dg2_jax.nn.convolution import conv3x3
from dg2_jax.nn.sd_blocks import doubled
from dg2_jax.typing import Latent

_RANGE = 3.0  # latents beyond it are compressed


@dataclasses.dataclass(frozen=True)
class TinyAutoencoderConfig:
    """Shape of the network; the defaults are TAESD's.

    Attributes:
        in_channels: of the images that `encode` takes.
        out_channels: of the images that `decode` returns.
        latent_channels: of a latent.
        encoder_block_out_channels: width of each resolution, finest first; all the same.
        decoder_block_out_channels: likewise, coarsest first.
        num_encoder_blocks: residual blocks at each resolution.
        num_decoder_blocks: likewise, coarsest first.
        scaling_factor: latents of diffusion are those of the network times this.
        shift_factor: subtracted before the scaling.

    Raises:
        ValueError: a value out of range, naming the field.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    encoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    decoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    num_encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    num_decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)
    scaling_factor: float = 1.0
    shift_factor: float = 0.0

    def __post_init__(self) -> None:
        for side in ("encoder", "decoder"):
            name, blocks = f"{side}_block_out_channels", f"num_{side}_blocks"
            widths = getattr(self, name)
            if not widths or len(set(widths)) != 1:
                raise ValueError(f"{name} must be equal numbers, got {widths}")
            if len(getattr(self, blocks)) != len(self.encoder_block_out_channels):
                raise ValueError(f"{blocks} must have one entry for each resolution")
        if len(self.decoder_block_out_channels) != len(self.encoder_block_out_channels):
            raise ValueError(
                "decoder_block_out_channels must have as many entries as the encoder's"
            )

    @property
    def downsampling_factor(self) -> int:
        """Pixels on a side of one latent cell."""
        return 2 ** (len(self.encoder_block_out_channels) - 1)


class _Block(nnx.Module):
    """relu(x + three convolutions with ReLU between them)."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.conv = nnx.List(conv3x3(channels, channels, rngs) for _ in range(3))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        h = nnx.relu(self.conv[0](x))
        h = nnx.relu(self.conv[1](h))
        return nnx.relu(x + self.conv[2](h))


class _Side(nnx.Module):
    """A sequence of layers; the decoder doubles the resolution before convolutions without bias."""

    def __init__(self, layers: Sequence[nnx.Module]):
        self.layers = nnx.List(layers)

    def __call__(self, x: Array, *, decodes: bool) -> Array:
        for i, layer in enumerate(self.layers):
            if decodes and isinstance(layer, nnx.Conv) and layer.bias is None:
                x = doubled(x, (2 * x.shape[1], 2 * x.shape[2]))
            x = layer(x)
            if decodes and i == 0:
                x = nnx.relu(x)
        return x


class TinyAutoencoder(nnx.Module):
    """Images in [-1, 1] to scaled latents and back.

    Called like `AutoencoderKL`, except that a latent is not a distribution:

        z = vae.scale(vae.encode(pixels))
        pixels = vae.decode(vae.unscale(z))
    """

    def __init__(self, config: TinyAutoencoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        width = config.encoder_block_out_channels[0]
        encoder: list[nnx.Module] = []
        for i, count in enumerate(config.num_encoder_blocks):
            encoder.append(
                conv3x3(width, width, rngs, strides=2, use_bias=False)
                if i
                else conv3x3(config.in_channels, width, rngs)
            )
            encoder += [_Block(width, rngs=rngs) for _ in range(count)]
        self.encoder = _Side([*encoder, conv3x3(width, config.latent_channels, rngs)])
        width = config.decoder_block_out_channels[0]
        decoder: list[nnx.Module] = [conv3x3(config.latent_channels, width, rngs)]
        for i, count in enumerate(config.num_decoder_blocks):
            if i:
                decoder.append(conv3x3(width, width, rngs, use_bias=False))
            decoder += [_Block(width, rngs=rngs) for _ in range(count)]
        self.decoder = _Side([*decoder, conv3x3(width, config.out_channels, rngs)])

    @property
    def downsampling_factor(self) -> int:
        """Pixels on a side of one latent cell."""
        return self.config.downsampling_factor

    def encode(self, pixels: Float[Array, "b H W i"]) -> Latent:
        """Latents of pixels in [-1, 1]; height and width multiples of `downsampling_factor`."""
        return self.encoder((pixels + 1.0) / 2.0, decodes=False)

    def decode(self, latents: Latent) -> Float[Array, "b H W o"]:
        """Pixels near [-1, 1], not clipped."""
        squeezed = jnp.tanh(latents / _RANGE) * _RANGE
        return self.decoder(squeezed, decodes=True) * 2.0 - 1.0

    def scale(self, latents: Latent) -> Latent:
        """(z - shift_factor) · scaling_factor: the latents that diffusion works on."""
        return (latents - self.config.shift_factor) * self.config.scaling_factor

    def unscale(self, latents: Latent) -> Latent:
        """The inverse of `scale`."""
        return latents / self.config.scaling_factor + self.config.shift_factor
