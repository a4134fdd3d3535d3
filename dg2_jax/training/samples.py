"""Sample grids: a column per prompt, a row per guidance scale, and always the same noise."""

from collections.abc import Callable

import numpy as np

from dg2_jax.models import model
from dg2_jax.models.model import Network, Params
from dg2_jax.pipeline import Pipeline
from dg2_jax.training import export
from dg2_jax.training.data import TrainingData
from dg2_jax.training.runs import DenoiserRunConfig

_STEPS = 20
_SOLVER = "dpmpp_2m"


def make_sample_grid(
    network: Network, config: DenoiserRunConfig, data: TrainingData
) -> Callable[[Params], np.ndarray]:
    """Loads the autoencoder and the text encoder; compiles nothing until it is called.

    Args:
        network: the denoiser.
        config: the run, with its prompts and guidance scales; 1 is unguided.
        data: what it is trained on.

    Returns:
        The denoiser's weights to a picture, uint8 (rows · H, columns · W, 3).
    """
    description = export.description(config, data)
    autoencoder, text_encoder = data.load_autoencoder(), data.load_text_encoder()
    prompts = config.sample_prompts or ("",)

    def grid(params: Params) -> np.ndarray:
        current = model.create(
            description, autoencoder, lambda name, shapes: params, denoiser=network
        )
        pipe = Pipeline(current, text_encoder)
        rows = [
            pipe(prompts, num_inference_steps=_STEPS, solver=_SOLVER, guidance_scale=scale).images
            for scale in config.sample_guidance or (1.0,)
        ]
        return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)

    return grid
