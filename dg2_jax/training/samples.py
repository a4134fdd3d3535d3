"""Sample grids: a column a prompt, a row a guidance scale, and always the same noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dg2_jax import guidance, images, sampling, schedules, solvers
from dg2_jax.training.data import TrainingData
from dg2_jax.training.runs import DenoiserRunConfig
from dg2_jax.training.state import Params

_STEPS = 20  # of DPM-Solver++(2M)


def make_sample_grid(
    graphdef: Any, config: DenoiserRunConfig, data: TrainingData
) -> Callable[[Params], np.ndarray]:
    """Loads the autoencoder and the text encoder; compiles nothing until it is called.

    Args:
        graphdef: of the denoiser.
        config: the run, with its prompts and guidance scales; 1 is unguided.
        data: what it is trained on.

    Returns:
        The denoiser's weights to a picture, uint8 (rows · H, columns · W, 3).
    """
    diffusion, prompts = config.diffusion, [*(config.sample_prompts or ("",))]
    # The last prompt stands for "no text" where the denoiser has no null context of its own.
    encoding = data.load_text_encoder().encode([*prompts, ""])
    mask = encoding.mask
    if not data.text_encoder.get("mask_padding", True):
        mask = jnp.ones_like(mask)
    schedule = diffusion.noise_schedule()
    spacing = schedules.default_spacing(schedule)
    visited = schedules.timesteps(_STEPS, schedule.num_train_timesteps, spacing)
    table = solvers.make_table("dpmpp_2m", schedule, visited)
    keys = sampling.image_keys(jnp.arange(len(prompts)))
    vae_graphdef, vae_params = nnx.split(data.load_autoencoder())

    @jax.jit
    def row(params: Params, vae_params: Any, scale: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, params)
        text = model.project_context(encoding.context[:-1], mask[:-1])
        if hasattr(model, "null_context"):
            no_text = model.null_context(*mask[:-1].shape)
        else:
            no_text = (jnp.repeat(a[-1:], len(prompts), axis=0) for a in (encoding.context, mask))
        null = model.project_context(*no_text)
        denoise = guidance.classifier_free(
            guidance.denoiser(model, diffusion.prediction_type),
            jnp.broadcast_to(scale, (len(prompts),)),
        )
        noise = sampling.initial_noise(keys, data.latent_shape)
        latents = sampling.sample(denoise, guidance.pair(text, null), noise, table, keys)
        decoder = nnx.merge(vae_graphdef, vae_params)
        return images.to_uint8(decoder.decode(decoder.unscale(latents)))

    def grid(params: Params) -> np.ndarray:
        scales = config.sample_guidance or (1.0,)
        rows = [np.asarray(row(params, vae_params, jnp.float32(w))) for w in scales]
        return np.concatenate([np.concatenate(list(r), axis=1) for r in rows], axis=0)

    return grid
