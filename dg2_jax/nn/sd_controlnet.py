"""ControlNet (Zhang et al., arXiv 2302.05543): a picture that steers Stable Diffusion's UNet.

It is used in two calls, like the UNet, which takes its result:

    conditioning = controlnet.project_context(context)
    residuals = controlnet.residuals(x, t, conditioning, image, scale)
    output = unet(x, t, unet.project_context(context), residuals=residuals)
"""

import dataclasses
import itertools

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dg2_jax.nn.convolution import conv3x3
from dg2_jax.nn.layers import Linear
from dg2_jax.nn.sd_config import SDUNetConfig
from dg2_jax.nn.sd_unet import Conditioning, Encoder, Residuals, Times
from dg2_jax.typing import Latent


@dataclasses.dataclass(frozen=True)
class ControlNetConfig:
    """Shape of a ControlNet.

    Attributes:
        unet: of the UNet whose way down it copies; fields of the way up are not used.
        conditioning_channels: of the picture.
        embedding_channels: widths of the picture's embedding; all but the last halve the size.
        bgr: the weights expect blue first; pictures are still given red first.
    """

    unet: SDUNetConfig
    conditioning_channels: int = 3
    embedding_channels: tuple[int, ...] = (16, 32, 96, 256)
    bgr: bool = False

    def __post_init__(self):
        """Check the fields; raises ValueError, naming the one that is wrong."""
        widths = (self.conditioning_channels, *self.embedding_channels)
        if not self.embedding_channels or min(widths) < 1:
            raise ValueError(
                "conditioning_channels and embedding_channels must be at least 1, got "
                f"{self.conditioning_channels} and {self.embedding_channels}"
            )

    @property
    def downsampling_factor(self) -> int:
        """Pixels on a side of one latent cell."""
        return 2 ** (len(self.embedding_channels) - 1)


class ImageEmbedding(nnx.Module):
    """Convolutions that bring the picture to the resolution of the latents."""

    def __init__(self, config: ControlNetConfig, *, rngs: nnx.Rngs):
        widths = config.embedding_channels
        self.conv_in = conv3x3(config.conditioning_channels, widths[0], rngs)
        self.blocks = nnx.List(
            conv3x3(i, width, rngs, strides=stride)
            for i, o in itertools.pairwise(widths)
            for width, stride in ((i, 1), (o, 2))
        )
        self.conv_out = conv3x3(widths[-1], config.unet.block_out_channels[0], rngs)

    def __call__(self, image: Float[Array, "b H W i"]) -> Float[Array, "b h w d"]:
        """`image` in [0, 1]."""
        x = nnx.silu(self.conv_in(image))
        for block in self.blocks:
            x = nnx.silu(block(x))
        return self.conv_out(x)


class ControlNet(Encoder):
    """The network; see the head of this file."""

    def __init__(self, config: ControlNetConfig, *, rngs: nnx.Rngs):
        super().__init__(config.unet, rngs=rngs)
        self.control = config
        widths, layers = config.unet.block_out_channels, config.unet.layers_per_block
        self.controlnet_cond_embedding = ImageEmbedding(config, rngs=rngs)
        skips = [widths[0]]
        for i, (width, count) in enumerate(zip(widths, layers, strict=True)):
            skips += [width] * (count + (i + 1 < len(widths)))
        self.controlnet_down_blocks = nnx.List(Linear(c, c, rngs=rngs) for c in skips)
        self.controlnet_mid_block = Linear(widths[-1], widths[-1], rngs=rngs)

    def residuals(
        self,
        x: Latent,
        t: Times,
        conditioning: Conditioning,
        image: Float[Array, "#b H W i"],
        scale: Float[Array, ""] | float = 1.0,
    ) -> Residuals:
        """The residuals to add to the UNet's skips and middle.

        Args:
            x: noisy latents (b, h, w, in_channels).
            t: training timesteps.
            conditioning: from `project_context`.
            image: (b, h·f, w·f, conditioning_channels) in [0, 1], red first; b may be 1.
            scale: of the residuals; 0 for no control.

        Raises:
            ValueError: the picture is not f times as high and wide as the latents.
        """
        factor = self.control.downsampling_factor
        expected = (factor * x.shape[1], factor * x.shape[2])
        if image.shape[1:3] != expected:
            raise ValueError(
                f"the conditioning image must be {expected[0]} x {expected[1]} pixels for these "
                f"latents, got {image.shape[1]} x {image.shape[2]}"
            )
        if self.control.bgr:
            image = jnp.flip(image, axis=-1)
        run = self._runner(t, conditioning, None)
        entries = iter(conditioning.keys_values)
        h = self.conv_in(x) + self.controlnet_cond_embedding(image)
        h, skips = self._way_down(h, run, entries)
        h = self._middle(h, run, entries)
        layers = zip(self.controlnet_down_blocks, skips, strict=True)
        scale = jnp.asarray(scale, h.dtype)
        down = tuple(scale * layer(skip) for layer, skip in layers)
        return Residuals(down, scale * self.controlnet_mid_block(h))
