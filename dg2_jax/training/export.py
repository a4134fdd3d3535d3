"""The model folder of a finished run."""

import shutil
from pathlib import Path

import jax
from flax import nnx

from dg2_jax import config as config_lib
from dg2_jax import model, sharding
from dg2_jax.training.data import TrainingData
from dg2_jax.training.runs import DenoiserRunConfig, DistillationRunConfig
from dg2_jax.training.state import Params, TrainState

_PROCESS = ("schedule", "prediction_type", "num_train_timesteps", "zero_terminal_snr")


def export(
    folder: str | Path, config: DenoiserRunConfig, data: TrainingData, raw: Params, ema: Params
) -> None:
    """Writes the folder, which `dg2_jax.Pipeline.load` opens; see `dg2_jax.model`.

    Of several processes each must call it, and the first writes.

    Args:
        folder: made if missing.
        config: of the run.
        data: what it was trained on.
        raw: the denoiser's last parameters.
        ema: their average.
    """
    weights = sharding.to_host({"raw": raw, "ema": ema})
    if jax.process_index() > 0:
        return
    diffusion = config_lib.to_dict(config.diffusion)
    description = {
        "model": model.architecture_name(config.denoiser),
        "denoiser": config_lib.to_dict(config.denoiser),
        "diffusion": {key: diffusion[key] for key in _PROCESS},
        "vae": data.vae,
        "text_encoder": data.text_encoder,
        "default_size": data.default_size,
    }
    if data.preview is not None:
        description["preview"] = data.preview
    own_vae = None
    if "pretrained" not in data.vae:
        own_vae = nnx.to_pure_dict(nnx.state(data.load_autoencoder()))
    model.save(folder, description, weights, own_vae)


def export_distilled(folder: str | Path, config: DistillationRunConfig, state: TrainState) -> None:
    """Writes the teacher's folder with the student's averaged weights in it, as "fast".

    They are sampled as they were trained unless a call says otherwise. Of several processes each
    must call it, and the first writes.
    """
    average = sharding.to_host(state.ema)
    if jax.process_index() > 0:
        return
    shutil.copytree(model.folder_of(config.init_from), folder, dirs_exist_ok=True)
    sampling = {
        "num_inference_steps": config.student_steps,
        "guidance_scale": 1.0,
        "solver": "ddim",
        "spacing": "trailing",
    }
    model.add_weights(folder, "fast", average, sampling)
