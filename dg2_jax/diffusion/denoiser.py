"""Denoisers: estimates of a clean latent x₀ from a noisy one.

A denoiser is a pair of functions, like an optimiser of optax: `init` creates its memory, `apply`
estimates x₀ and updates the memory, which the sampling loop carries from row to row. Guidance,
in-painting and anagrams are functions from denoisers to denoisers, so they compose.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dg2_jax.diffusion import prediction
from dg2_jax.typing import Latent

Conditioning = Any  # a pytree whose leaves start with the batch axis
Memory = Any  # likewise; () for a denoiser without one
Predict = Callable[[Latent, Int[Array, " b"], Conditioning], Latent]


class Level(NamedTuple):
    """A noise level: one for the whole batch, () each, or one per latent, (b,) each."""

    timestep: Int[Array, "*b"]
    alpha: Float[Array, "*b"]
    sigma: Float[Array, "*b"]

    def repeated(self, copies: int) -> "Level":
        """The level of `copies` batches of the same latents, one after another."""
        return Level(*(jnp.tile(a, copies) if jnp.ndim(a) else a for a in self))

    def of_latents(self, index: Int[Array, " r"]) -> "Level":
        """The level of the latents of these numbers."""
        return Level(*(a[index] if jnp.ndim(a) else a for a in self))

    def over_latents(self) -> tuple[Any, Any]:
        """α and σ as they are multiplied with latents (b, h, w, c)."""
        return over_latents(self.alpha), over_latents(self.sigma)


def over_latents(values: Any) -> Any:
    """Numbers in the shape in which latents are multiplied by them.

    Args:
        values: one for all latents, (), stays as it is; one for each, (b,), gets (b, 1, 1, 1).
    """
    return values if jnp.ndim(values) == 0 else values[:, None, None, None]


class Denoiser(NamedTuple):
    """An estimator of x₀ with a memory.

    Attributes:
        init: latents to the memory before the first row; only their shape and dtype matter.
        apply: (x, level, conditioning, memory) to (estimate of x₀, memory).
    """

    init: Callable[[Latent], Memory]
    apply: Callable[[Latent, Level, Conditioning, Memory], tuple[Latent, Memory]]


def stateless(estimate: Callable[[Latent, Level, Conditioning], Latent]) -> Denoiser:
    """The denoiser without memory that a function (x, level, conditioning) to x₀ gives."""
    return Denoiser(
        init=lambda x: (),
        apply=lambda x, level, conditioning, memory: (estimate(x, level, conditioning), memory),
    )


def of_network(network: Predict, prediction_type: str) -> Denoiser:
    """The denoiser of a network that predicts ε, v or x₀ at a training timestep.

    Raises:
        ValueError: an unknown prediction type.
    """
    prediction.check(prediction_type)

    def estimate(x: Latent, level: Level, conditioning: Conditioning) -> Latent:
        t = jnp.broadcast_to(level.timestep, x.shape[:1])
        output = network(x, t, conditioning)
        return prediction.to_x0(prediction_type, x, output, *level.over_latents())

    return stateless(estimate)
