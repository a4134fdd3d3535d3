"""Sample grids: a column a prompt, a row a guidance scale, and always the same noise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dg2_jax import guidance, images, sampling, schedules, solvers
from dg2_jax.config import check
from dg2_jax.files import replacing
from dg2_jax.interop.dg2_prompts import read_evaluation_prompts
from dg2_jax.text_files import decode, lines
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

    Raises:
        FileNotFoundError, ValueError: the file of prompts is missing, damaged or of other tokens.

    Returns:
        The denoiser's weights to a picture, uint8 (rows · H, columns · W, 3).
    """
    diffusion = config.diffusion
    prompts, context, mask = _encoded(config, data)
    schedule = diffusion.noise_schedule()
    spacing = schedules.default_spacing(schedule)
    visited = schedules.timesteps(_STEPS, schedule.num_train_timesteps, spacing)
    table = solvers.make_table("dpmpp_2m", schedule, visited)
    keys = sampling.image_keys(jnp.arange(len(prompts)))
    vae_graphdef, vae_params = nnx.split(data.load_autoencoder())

    @jax.jit
    def row(params: Params, vae_params: Any, scale: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, params)
        text = model.project_context(context[:-1], mask[:-1])
        if hasattr(model, "null_context"):
            no_text = model.null_context(*mask[:-1].shape)
        else:
            no_text = (jnp.repeat(a[-1:], len(prompts), axis=0) for a in (context, mask))
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


def prompts_of(config: DenoiserRunConfig, data: TrainingData) -> tuple[str, ...]:
    """What the columns of a sample grid show."""
    path = Path(config.sample_prompts_file)
    if path.suffix == ".pt":
        return read_evaluation_prompts(path).prompts
    given = config.sample_prompts
    if config.sample_prompts_file:
        text = decode(path.read_bytes(), f"sample_prompts_file: {path}")
        given += tuple(line.strip() for line in lines(text) if line.strip())
    return given or data.captions or ("",)


def write_prompts(workdir: Path, config: DenoiserRunConfig, data: TrainingData) -> None:
    """Writes samples/prompts.txt, a line per column of the grids."""
    folder = workdir / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "prompts.txt") as partial:
        partial.write_text("\n".join(prompts_of(config, data)) + "\n", "utf-8")


def _encoded(
    config: DenoiserRunConfig, data: TrainingData
) -> tuple[tuple[str, ...], jax.Array, jax.Array]:
    """The prompts, and their tokens and mask, followed by those of no text.

    The latter are for denoisers without a null context of their own.
    """
    prompts = prompts_of(config, data)
    if config.sample_prompts_file.endswith(".pt"):
        given = read_evaluation_prompts(config.sample_prompts_file)
        width = given.context.shape[-1]
        check(
            width == data.context_dim, "sample_prompts_file", f"of width {data.context_dim}", width
        )
        context = jnp.asarray(np.concatenate([given.context, given.null[None]]))
        return prompts, context, jnp.ones(context.shape[:2], bool)
    encoding = data.load_text_encoder().encode([*prompts, ""])
    mask = encoding.mask
    if not data.text_encoder.get("mask_padding", True):
        mask = jnp.ones_like(mask)
    return prompts, encoding.context, mask
