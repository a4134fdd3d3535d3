"""Writes the model folder of a run."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dg2_jax import config as config_lib
from dg2_jax.checks import check
from dg2_jax.interop import diffusers_vae
from dg2_jax.models import coders, sources
from dg2_jax.models import folder as folder_lib
from dg2_jax.models.model import Model, Params
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.modules import split
from dg2_jax.text.stable_diffusion import StableDiffusionText
from dg2_jax.training import sharding, starting, texts
from dg2_jax.training.checkpoint import CheckpointManager
from dg2_jax.training.data import TrainingData, open_data
from dg2_jax.training.runs import DenoiserRunConfig, DistillationRunConfig
from dg2_jax.training.state import TrainState

_PROCESS = (
    *("schedule", "prediction_type", "num_train_timesteps", "zero_terminal_snr"),
    *("beta1", "beta2", "s"),
)

_CARD = """---
library_name: dg2_jax
pipeline_tag: text-to-image
tags: [latent-diffusion, jax]
---
# {name}

A text-to-image latent-diffusion model for `dg2_jax`, from {source}. Denoiser: {architecture},
{prediction}, {schedule} schedule; pictures of {size} pixels; sets of weights: {weights}.

```python
from dg2_jax import Pipeline

Pipeline.load("{name}")("a lake at dawn").save("outputs")  # the path of this folder
```
"""


def description(config: DenoiserRunConfig, data: TrainingData) -> dict[str, Any]:
    """config.json of the run's model, without "format" and "files".

    Args:
        config: of the run.
        data: of the run.
    """
    diffusion = config_lib.to_dict(config.diffusion)
    described = {
        "model": config.model,
        "denoiser": config_lib.to_dict(config.denoiser),
        "diffusion": {key: diffusion[key] for key in _PROCESS},
        "vae": data.vae,
        "text_encoder": data.text_encoder,
        "default_size": data.default_size,
    }
    if config.lora is not None:  # which changes neither the process nor how it is best sampled
        start = sources.described(config.init_from)
        described |= {key: start[key] for key in ("diffusion", "sampling") if key in start}
    return described if data.preview is None else {**described, "preview": data.preview}


def export(
    folder: str | Path,
    config: DenoiserRunConfig,
    data: TrainingData,
    raw: Params,
    ema: Params,
    trained_text: StableDiffusionText | None = None,
) -> None:
    """Writes the folder, which `dg2_jax.Pipeline.load` opens; see `dg2_jax.models.folder`.

    With several processes, all must call it, and the first writes.

    Args:
        folder: created if missing.
        config: of the run.
        data: of the run.
        raw: the denoiser's last parameters.
        ema: their average.
        trained_text: the text encoder, where it was trained too.
    """
    weights = sharding.to_host({"raw": raw, "ema": ema})
    if jax.process_index() > 0:
        return
    own_vae = None
    if "pretrained" not in data.vae:
        own_vae = nnx.to_pure_dict(nnx.state(data.load_autoencoder()))
    described = description(config, data)
    described["text_encoder"] = coders.keep_texts(Path(folder), data.text_encoder, trained_text)
    folder_lib.save(folder, described, weights, own_vae)


def export_checkpoint(
    workdir: str | Path,
    data_dir: str | Path,
    folder: str | Path,
    step: int | None = None,
    vae: str = diffusers_vae.STABLE_DIFFUSION,
    text_encoder: str = "clip",
) -> int:
    """Writes the model folder of a checkpoint of scripts.train, with adapters merged.

    Args:
        workdir: of the run.
        data_dir: the data of the run.
        folder: created if missing.
        step: of the checkpoint; None takes the newest.
        vae: of latent shards, as of `open_data`.
        text_encoder: of latent shards.

    Returns:
        The step.

    Raises:
        FileNotFoundError: there is no such checkpoint, or no data.
        ValueError: the checkpoint is damaged, or of another kind of run.
    """
    saved = Path(workdir) / "checkpoints"
    known = CheckpointManager(saved).steps() if saved.is_dir() else []
    step = max(known, default=None) if step is None else step
    if step not in known:
        raise FileNotFoundError(f"step must be one of {known}, which {saved} has; got {step}")
    values = json.loads((saved / str(step) / "config.json").read_text("utf-8"))
    config = DenoiserRunConfig.from_saved(values)
    data = open_data(data_dir, config, vae, text_encoder)
    network, params = starting.abstract_denoiser(config)
    if config.lora is not None:
        params = starting.weights(config)
    trained = texts.trained(config, data, network, params)
    tuned = trained.tuned
    like = jax.eval_shape(lambda params: starting.initial_state(config, params), tuned.params)
    state = CheckpointManager(saved).restore(like, step).state
    raw, _ = trained.parted(tuned.weights(state.params))
    export(folder, config, data, raw, *trained.parted(tuned.weights(state.ema)))
    return step


def export_distilled(folder: str | Path, config: DistillationRunConfig, state: TrainState) -> None:
    """Writes the teacher's folder with the student's averaged weights in it, as "fast".

    By default they are sampled as they were trained. With several processes, all must call it, and
    the first writes.
    """
    average = sharding.to_host(state.ema)
    if jax.process_index() > 0:
        return
    shutil.copytree(folder_lib.folder_of(config.init_from), folder, dirs_exist_ok=True)
    sampling = {
        "num_inference_steps": config.student_steps,
        "guidance_scale": 1.0,
        "solver": "ddim",
        "spacing": "trailing",
    }
    folder_lib.add_weights(folder, "fast", average, sampling)


def export_model(folder: str | Path, source: Model, dtype: Any = jnp.bfloat16) -> None:
    """Writes a loaded model, which may have adapters, to a new folder.

    Args:
        folder: created if missing.
        source: the model; all of its sets of weights are written.
        dtype: of the stored weights.
    """
    config = {k: v for k, v in source.config.items() if k not in ("format", "files")}
    own_vae = None if "pretrained" in config["vae"] else source.autoencoder_params
    folder_lib.save(folder, config, source.params, own_vae, dtype)


def with_autoencoder(source: Model, vae: AutoencoderKL) -> Model:
    """A model with another autoencoder of the same latents, such as one with a new decoder.

    The size of its pictures is the decoded size of the model's latents.

    Raises:
        ValueError: its latents have other channels, or another scaling.
    """
    own, new = source.autoencoder_config, vae.config
    for name in ("latent_channels", "scaling_factor", "shift_factor"):
        expected, value = getattr(own, name), getattr(new, name)
        same = abs(value - expected) <= 0.01 * abs(expected)
        check(same, f"autoencoder.{name}", f"{expected:.4g}, as the model's latents have", value)
    network, params = split(vae)
    size = source.latent_shape[0] * new.downsampling_factor
    return dataclasses.replace(
        source,
        config={**source.config, "vae": new.to_dict(), "default_size": size},
        autoencoder=network,
        autoencoder_params=params,
        autoencoder_config=new,
        default_size=size,
    )


def write_card(folder: Path, source: str) -> None:
    """Writes README.md, a model card for Hugging Face's hub, from config.json."""
    model = folder_lib.load(folder)
    text = _CARD.format(
        name=folder.name,
        source=source,
        architecture=model.config["model"],
        prediction=model.prediction_type,
        schedule=model.schedule.name,
        size=model.default_size,
        weights=", ".join(model.params),
    )
    (folder / "README.md").write_text(text, "utf-8")
