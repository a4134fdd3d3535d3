"""Measures of reconstructions: PSNR, SSIM, equivariance error."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.typing import Pixels

DATA_RANGE = 2.0  # pixels are in [-1, 1]


def psnr(a: Pixels, b: Pixels) -> Float[Array, " b"]:
    """10 log₁₀(range² / mean squared error) of each image, in dB; infinite for equal images."""
    return 10.0 * jnp.log10(DATA_RANGE**2 / jnp.mean(jnp.square(a - b), axis=(1, 2, 3)))


def gradient_energy(pixels: Pixels) -> Float[Array, " b"]:
    """The mean absolute difference of neighbouring pixels of each image, along both axes."""
    across, down = jnp.abs(jnp.diff(pixels, axis=2)), jnp.abs(jnp.diff(pixels, axis=1))
    return (jnp.mean(across, axis=(1, 2, 3)) + jnp.mean(down, axis=(1, 2, 3))) / 2


def sharpness(images: Pixels, true: Pixels) -> Float[Array, ""]:
    """The mean `gradient_energy` of images over that of true ones; below 1 they are too soft."""
    return jnp.mean(gradient_energy(images)) / jnp.mean(gradient_energy(true))


def ssim(a: Pixels, b: Pixels, window: int = 11, sigma: float = 1.5) -> Float[Array, " b"]:
    """Structural similarity of each image (Wang et al., 2004), Gaussian window, mean of channels.

    Images must be at least `window` pixels on a side; borders without a whole window are left out.
    """
    x = jnp.arange(window) - (window - 1) / 2.0
    kernel = jnp.exp(-0.5 * jnp.square(x / sigma))
    kernel = kernel / kernel.sum()

    def blur(image: Array) -> Array:
        for axis in (1, 2):
            n = image.shape[axis] - window + 1
            shifted = [jnp.take(image, jnp.arange(i, i + n), axis=axis) for i in range(window)]
            image = jnp.tensordot(kernel, jnp.stack(shifted), axes=1)
        return image

    c1, c2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return jnp.mean(luminance * structure, axis=(1, 2, 3))


def equivariance_error(
    vae: AutoencoderKL, pixels: Pixels, view: Callable[[Array], Array]
) -> Float[Array, ""]:
    """e(v) = ||D(v z) - v D(z)||² / ||D(z)||² at the mode z; 0 for an equivariant decoder.

    Args:
        vae: the autoencoder.
        pixels: (b, h, w, 3) in [-1, 1].
        view: a map of (b, h, w, c) that moves cells, such as a half turn.
    """
    latents = vae.encode(pixels).mode()
    plain = vae.decode(latents)
    error = vae.decode(view(latents)) - view(plain)
    return jnp.sum(jnp.square(error)) / jnp.sum(jnp.square(plain))
