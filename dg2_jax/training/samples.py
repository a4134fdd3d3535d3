"""Sample grids: a column a prompt, a row a guidance scale, and always the same noise."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dg2_jax import guidance, sampling, schedules, solvers
from dg2_jax.config import DiffusionConfig
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.text import TextEncoder
from dg2_jax.training.state import Params


def make_sample_grid(
    graphdef: Any,
    vae: AutoencoderKL,
    text_encoder: TextEncoder,
    diffusion: DiffusionConfig,
    prompts: Sequence[str],
    guidance_scales: Sequence[float],
    latent_shape: tuple[int, int, int],
    num_inference_steps: int = 20,
) -> Callable[[Params], np.ndarray]:
    """Compiles nothing until it is called.

    Args:
        graphdef: of the denoiser.
        vae: decodes the latents.
        text_encoder: encodes the prompts, once, here.
        diffusion: the process that the denoiser is trained on.
        prompts: at least one.
        guidance_scales: at least one; 1 is unguided.
        latent_shape: (h, w, c).
        num_inference_steps: of DPM-Solver++(2M).

    Returns:
        The denoiser's weights to a picture, uint8 (rows · H, columns · W, 3).
    """
    encoding = text_encoder.encode(list(prompts))
    schedule = schedules.make(
        diffusion.schedule, diffusion.num_train_timesteps, diffusion.zero_terminal_snr
    )
    spacing = schedules.default_spacing(schedule)
    visited = schedules.timesteps(num_inference_steps, schedule.num_train_timesteps, spacing)
    table = solvers.make_table("dpmpp_2m", schedule, visited)
    keys = sampling.image_keys(jnp.arange(len(prompts)))
    vae_graphdef, vae_params = nnx.split(vae)

    @jax.jit
    def row(params: Params, vae_params: Any, scale: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, params)
        text = model.project_context(encoding.context, encoding.mask)
        null = model.project_context(*model.null_context(*encoding.mask.shape))
        denoise = guidance.classifier_free(
            guidance.denoiser(model, diffusion.prediction_type),
            jnp.broadcast_to(scale, (len(prompts),)),
        )
        noise = sampling.initial_noise(keys, latent_shape)
        latents = sampling.sample(denoise, guidance.pair(text, null), noise, table, keys)
        decoder = nnx.merge(vae_graphdef, vae_params)
        pixels = jnp.clip(decoder.decode(decoder.unscale(latents)), -1.0, 1.0)
        return jnp.round((pixels + 1.0) * 127.5).astype(jnp.uint8)

    def grid(params: Params) -> np.ndarray:
        rows = [np.asarray(row(params, vae_params, jnp.float32(w))) for w in guidance_scales]
        return np.concatenate([np.concatenate(list(r), axis=1) for r in rows], axis=0)

    return grid
