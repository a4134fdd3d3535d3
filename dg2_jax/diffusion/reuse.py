"""Reuse of a network's deep features between sampling steps (DeepCache, arXiv 2312.00858).

Consecutive steps see nearly the same picture, and the features of a UNet's deep, costly levels
change the least. `denoiser` evaluates the whole network at every n-th row of a solver's table. At
the rows in between it runs only the first level, on the deep features of the last full evaluation.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dg2_jax.diffusion import prediction
from dg2_jax.diffusion.denoiser import Conditioning, Denoiser, Level
from dg2_jax.typing import Latent, Time

_NEVER = 2**30  # an age above any `every`, even after many rows


@runtime_checkable
class DeepNetwork(Protocol):
    """A network whose deep part can be skipped, such as `dg2_jax.nn.unet.UNet`."""

    def evaluate(
        self, x: Latent, t: Time, conditioning: Any, deep: Any = None
    ) -> tuple[Latent, Any]:
        """The output, and the deep features: computed, or those given."""

    def deep_shape(self, latent_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the deep features of latents (b, h, w, c)."""


class Cache(NamedTuple):
    """The memory of `denoiser`; a full evaluation is due once any age reaches `every`.

    Attributes:
        age: rows since each latent's features were computed, that row included.
        deep: the features.
    """

    age: Int[Array, " b"]
    deep: Float[Array, "b h w c"]


def denoiser(network: DeepNetwork, prediction_type: str, every: Int[Array, ""]) -> Denoiser:
    """Like `denoiser.of_network`, with reuse of deep features.

    The first row is always computed. A two-stage solver has two rows per step.

    Args:
        network: the network.
        prediction_type: what it predicts.
        every: rows from one full evaluation to the next; 1 reuses nothing. It is data: another
            value does not recompile.

    Raises:
        ValueError: the network is too shallow to have deep features.
    """
    prediction.check(prediction_type)

    def init(x: Latent) -> Cache:
        age = jnp.full(len(x), _NEVER, jnp.int32)
        return Cache(age, jnp.zeros(network.deep_shape(x.shape), x.dtype))

    def apply(
        x: Latent, level: Level, conditioning: Conditioning, memory: Cache
    ) -> tuple[Latent, Cache]:
        t = jnp.broadcast_to(level.timestep, x.shape[:1])
        due = jnp.any(memory.age >= every)
        output, deep = jax.lax.cond(
            due,
            lambda: network.evaluate(x, t, conditioning),
            lambda: network.evaluate(x, t, conditioning, memory.deep),
        )
        age = jnp.where(due, 1, memory.age + 1)
        x0 = prediction.to_x0(prediction_type, x, output, *level.over_latents())
        return x0, Cache(age, deep)

    return Denoiser(init, apply)
