"""Visual anagrams: one picture that shows a different prompt in each of several views.

Geng et al., Visual Anagrams (arXiv 2311.17919): denoise the sample in every view, each with its own
prompt, turn the estimates back and average them. The views (`dg2_jax.diffusion.views`) are
orthogonal, so the noise stays what the network expects, and averaging ε, v or x₀ is the same.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dg2_jax.diffusion import views
from dg2_jax.diffusion.denoiser import Conditioning, Denoiser, Level, Memory
from dg2_jax.diffusion.views import ViewMap
from dg2_jax.typing import Latent, Pixels


def view_of(stacked: ViewMap, i: int) -> ViewMap:
    """The i-th of views stacked along a leading axis."""
    index, inverse, sign = map(jnp.asarray, stacked)
    return ViewMap(index[i], inverse[i], sign[i])


def fan_out(x: Float[Array, "b h w c"], stacked: ViewMap) -> Float[Array, "vb h w c"]:
    """`x` in every view, one view after another along the batch."""
    count = stacked.index.shape[0]
    return jnp.concatenate([views.apply(x, view_of(stacked, i)) for i in range(count)])


def fan_in(x: Float[Array, "vb h w c"], stacked: ViewMap) -> Float[Array, "v b h w c"]:
    """Turns every view in the layout of `fan_out` back."""
    parts = jnp.split(x, stacked.index.shape[0])
    return jnp.stack([views.invert(part, view_of(stacked, i)) for i, part in enumerate(parts)])


def shared_latent(denoise: Denoiser, stacked: ViewMap, corrected: Bool[Array, ""]) -> Denoiser:
    """One latent seen in every view: x₀ is the mean of the views' estimates, turned back.

    Args:
        denoise: takes v times the batch of x; its conditioning is ordered view by view.
        stacked: the views, stacked.
        corrected: whether to give the mean ε the variance of the single estimates. The mean of two
            estimates with correlation ρ has only (1 + ρ)/2 of their variance, and the sampler would
            take the loss for a picture without contrast.
    """

    def apply(
        x: Latent, level: Level, conditioning: Conditioning, memory: Memory
    ) -> tuple[Latent, Memory]:
        estimates, memory = denoise.apply(fan_out(x, stacked), level, conditioning, memory)
        each = fan_in(estimates, stacked)
        mean = each.mean(0)
        alpha, sigma = jnp.maximum(level.alpha, 1e-3), level.sigma
        noises = (x[None] - alpha * each) / sigma
        noise = noises.mean(0)
        variance = jnp.var(noises, axis=(2, 3, 4)).mean(0)
        gain = jnp.sqrt(variance / jnp.maximum(jnp.var(noise, axis=(1, 2, 3)), 1e-8))
        gain = gain[:, None, None, None]
        return jnp.where(corrected, (x - sigma * gain * noise) / alpha, mean), memory

    return Denoiser(lambda x: denoise.init(fan_out(x, stacked)), apply)


def synchronised(
    denoise: Denoiser,
    stacked: ViewMap,
    encode: Callable[[Pixels], Latent],
    decode: Callable[[Latent], Pixels],
) -> Denoiser:
    """One latent per view, made to agree in pixels at every step; for any autoencoder.

    The cells of a latent turn with a view but their contents do not, unless the autoencoder was
    trained for it. So every estimate is decoded, turned back, averaged with the others, turned
    again and encoded; what the autoencoder itself loses, x₀ - E(D(x₀)), is added back.

    Args:
        denoise: the denoiser of x, which holds v latents per image, view by view.
        stacked: the views of pixels, stacked.
        encode: pixels to scaled latents, the mean.
        decode: scaled latents to pixels.
    """

    def apply(
        x: Latent, level: Level, conditioning: Conditioning, memory: Memory
    ) -> tuple[Latent, Memory]:
        x0, memory = denoise.apply(x, level, conditioning, memory)
        pixels = decode(x0)
        common = fan_in(pixels, stacked).mean(0)
        encoded = encode(jnp.concatenate([fan_out(common, stacked), pixels]))
        turned, plain = jnp.split(encoded, 2)
        return turned + x0 - plain, memory

    return Denoiser(denoise.init, apply)


def merge_pixels(pixels: Float[Array, "vb h w 3"], stacked: ViewMap) -> Pixels:
    """The one picture of `synchronised`'s latents, decoded: the mean of the views turned back."""
    return fan_in(pixels, stacked).mean(0)


def alignment_and_concealment(
    scores: Float[Array, "v v"], temperature: float = 0.01
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """A and C of one picture (arXiv 2311.17919, section 4.2).

    Args:
        scores: S_ij, likeness of the picture in view i to the prompt of view j.
        temperature: of the softmax.

    Returns:
        A = min_i S_ii: every view shows its prompt. C = trace(softmax(S/τ))/v, over rows and
        columns and averaged: no view shows another's.
    """
    alignment = jnp.min(jnp.diagonal(scores))
    soft = [jax.nn.softmax(scores / temperature, axis=axis) for axis in (0, 1)]
    return alignment, (jnp.trace(soft[0]) + jnp.trace(soft[1])) / (2 * len(scores))
