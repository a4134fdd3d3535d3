"""In-painting as a denoiser: where the change map forbids a change, x₀ is that of the original.

A solver that is given x₀ = z₀ moves a cell along the noising path of z₀: for DDIM,

    x_p = α_p z₀ + σ_p (x_t - α_t z₀)/σ_t,

which is z₀ at the *next* level p under the noise it had from the start. So replacing the estimate
is the same as blending the sample at level p, works with every solver and its history, and ends in
z₀ itself. A soft map is a change map (Levin and Fried, Differential Diffusion, arXiv 2306.00950):
each cell is released at its own step, never blended, so that no average of two noises loses
variance.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dg2_jax.diffusion.denoiser import Conditioning, Denoiser, Level, Memory, over_latents
from dg2_jax.typing import Latent


def keep_original(
    denoise: Denoiser,
    original: Latent,
    change: Float[Array, "b h w 1"],
    first_timestep: Int[Array, "*b"],
) -> Denoiser:
    """`denoise` where and when the change map allows it, the original elsewhere.

    Args:
        denoise: the denoiser.
        original: z₀, scaled clean latents.
        change: from 0 (never changed) to 1 (free from the first step); a cell with the value c is
            free for the last fraction c of the way from `first_timestep` to 0.
        first_timestep: the noisiest timestep, where sampling starts: one, or one per latent.
    """

    def apply(
        x: Latent, level: Level, conditioning: Conditioning, memory: Memory
    ) -> tuple[Latent, Memory]:
        x0, memory = denoise.apply(x, level, conditioning, memory)
        remaining = over_latents((level.timestep + 1) / (first_timestep + 1))
        return jnp.where(change < remaining, original, x0), memory

    return Denoiser(denoise.init, apply)
