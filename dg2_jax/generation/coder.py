"""The autoencoder of a model as compiled functions between uint8 pictures and scaled latents."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, UInt8

from dg2_jax import program_cache
from dg2_jax.diffusion import anagram
from dg2_jax.diffusion.views import ViewMap
from dg2_jax.models.model import Network, Params
from dg2_jax.pictures.images import from_uint8, to_uint8
from dg2_jax.typing import Latent, Pixels


class Coder(NamedTuple):
    """An autoencoder with its parameters; both ways are differentiable.

    Attributes:
        encode: pixels in [-1, 1] to scaled latents, the mean of the posterior.
        decode: scaled latents to pixels.
    """

    encode: Callable[[Pixels], Latent]
    decode: Callable[[Latent], Pixels]


def bind(autoencoder: Network, params: Params) -> Coder:
    """The coder of an autoencoder, for use within a compiled function."""
    vae = autoencoder.bind(params)
    return Coder(lambda p: vae.scale(vae.encode(p).mode()), lambda z: vae.decode(vae.unscale(z)))


# Neither this nor `encode_masked` is kept: JAX commits the results of an exported program to their
# device, and what takes them would be compiled again for the source of a txt2img.
@functools.partial(jax.jit, static_argnums=0)
def encode(autoencoder: Network, params: Params, images: UInt8[Array, "b H W 3"]) -> Latent:
    """Pictures to scaled latents."""
    return bind(autoencoder, params).encode(from_uint8(images))


@functools.partial(jax.jit, static_argnums=0)
def encode_masked(
    autoencoder: Network,
    params: Params,
    images: UInt8[Array, "b H W 3"],
    mask: Bool[Array, "b H W 1"],
) -> Latent:
    """Pictures, grey where the mask is True, to scaled latents."""
    return bind(autoencoder, params).encode(jnp.where(mask, 0.0, from_uint8(images)))


@functools.partial(jax.jit, static_argnums=0)
@program_cache.kept
def decode(autoencoder: Network, params: Params, latents: Latent) -> UInt8[Array, "b H W 3"]:
    """Scaled latents to pictures."""
    return to_uint8(bind(autoencoder, params).decode(latents))


@functools.partial(jax.jit, static_argnums=0)
@program_cache.kept
def decode_views(
    autoencoder: Network, params: Params, latents: Latent, views: ViewMap
) -> UInt8[Array, "n H W 3"]:
    """The latents of all views, view by view, to one picture per image: see `merge_pixels`."""
    return to_uint8(anagram.merge_pixels(bind(autoencoder, params).decode(latents), views))
