"""Guidance: functions from denoiser to denoiser, in the space of x₀ estimates.

A denoiser maps (x, level, conditioning) to an estimate of x₀. Since x₀, ε and v estimates at one x
are affine in each other, a combination whose weights sum to 1 is the same in all three spaces.
Convention: guidance_scale = 1 is unguided.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dg2_jax import prediction
from dg2_jax.typing import Latent

Conditioning = TypeVar("Conditioning")  # any pytree whose leaves start with the batch axis


class Level(NamedTuple):
    """A noise level, the same for the whole batch."""

    timestep: Int[Array, ""]
    alpha: Float[Array, ""]
    sigma: Float[Array, ""]


Denoiser = Callable[[Latent, Level, Conditioning], Latent]
Network = Callable[[Latent, Int[Array, "b"], Conditioning], Latent]


def denoiser(network: Network, prediction_type: str) -> Denoiser:
    """The denoiser of a network that predicts ε, v or x₀."""
    prediction.check(prediction_type)

    def denoise(x: Latent, level: Level, conditioning: Conditioning) -> Latent:
        t = jnp.broadcast_to(level.timestep, x.shape[:1])
        output = network(x, t, conditioning)
        return prediction.to_x0(prediction_type, x, output, level.alpha, level.sigma)

    return denoise


def pair(conditional: Conditioning, unconditional: Conditioning) -> Conditioning:
    """The conditioning of `classifier_free`: both branches along the batch axis."""
    return jax.tree.map(lambda c, u: jnp.concatenate([c, u]), conditional, unconditional)


def conditional_half(paired: Conditioning) -> Conditioning:
    """The first branch of `pair`."""
    return jax.tree.map(lambda a: a[: len(a) // 2], paired)


def rescale(guided: Latent, conditional: Latent, phi: Float[Array, "b"]) -> Latent:
    """φ · g · std(c)/std(g) + (1 - φ) · g (Lin et al., arXiv 2305.08891, equations 15-16).

    Undoes the over-exposure of strong guidance. The standard deviations are those of each x₀
    estimate over all its elements; φ = 0 leaves the estimate alone.
    """
    axes = (1, 2, 3)
    std_c = jnp.std(conditional, axis=axes, keepdims=True)
    std_g = jnp.std(guided, axis=axes, keepdims=True)
    phi = phi[:, None, None, None]
    return guided * (phi * std_c / jnp.maximum(std_g, 1e-8) + (1.0 - phi))


def classifier_free(
    denoise: Denoiser,
    guidance_scale: Float[Array, "b"],
    guidance_rescale: Float[Array, "b"] | None = None,
) -> Denoiser:
    """Classifier-free guidance u + w (c - u) (Ho and Salimans, arXiv 2207.12598).

    c is the prompt's estimate, u the negative prompt's or the null text's.

    The result takes the conditioning of `pair` (twice the batch of x) and calls `denoise` once on
    both branches together.
    """
    scale = guidance_scale[:, None, None, None]

    def guided(x: Latent, level: Level, paired: Conditioning) -> Latent:
        c, u = jnp.split(denoise(jnp.concatenate([x, x]), level, paired), 2)
        g = u + scale * (c - u)
        return g if guidance_rescale is None else rescale(g, c, guidance_rescale)

    return guided


def within_interval(
    guided: Denoiser, denoise: Denoiser, interval: tuple[Float[Array, ""], Float[Array, ""]]
) -> Denoiser:
    """`guided` at noise levels low ≤ σ ≤ high, `denoise` alone elsewhere (arXiv 2404.07724).

    Outside the interval the unconditional branch is not evaluated at all.
    """
    low, high = interval

    def choose(x: Latent, level: Level, paired: Conditioning) -> Latent:
        inside: Bool[Array, ""] = (level.sigma >= low) & (level.sigma <= high)
        return jax.lax.cond(
            inside,
            lambda: guided(x, level, paired),
            lambda: denoise(x, level, conditional_half(paired)),
        )

    return choose
