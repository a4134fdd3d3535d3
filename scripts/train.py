"""Trains a denoiser on an encoded data set: python -m scripts.train --config configs/demo.py.

Writes to --workdir: checkpoints/, metrics.jsonl, samples/ and, at the end, model/, a folder that
`dg2_jax.Pipeline.load` opens. Run again after an interruption, it goes on.
"""

import sys
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from flax import nnx
from ml_collections import config_flags

from dg2_jax import compile_cache, model
from dg2_jax import config as config_lib
from dg2_jax.data import encoding, latents
from dg2_jax.data.loader import Loader
from dg2_jax.nn.unet import UNet
from dg2_jax.text import load_text_encoder
from dg2_jax.training import loop, optimizer, runs, samples, state, step

_CONFIG = config_flags.DEFINE_config_file("config", "configs/demo.py", "What to train.")
_WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Gets checkpoints, logs and the model.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data/encoded", "What scripts.encode made.")

_PROCESS = ("schedule", "prediction_type", "num_train_timesteps", "zero_terminal_snr")


def run(config: runs.DenoiserRunConfig, workdir: Path, data_dir: Path) -> bool:
    """Trains and exports; returns whether the run came to its end."""
    manifest = latents.read_manifest(data_dir)
    vae = encoding.load_autoencoder(data_dir)
    train, validation = (latents.LatentSource(data_dir, s) for s in ("train", "validation"))
    latent_shape = train[0]["mean"].shape
    runs.check_data(config, latent_shape, manifest["context_dim"])

    unet = UNet(config.denoiser, rngs=nnx.Rngs(config.seed))
    graphdef, variables = nnx.split(unet)
    params = nnx.to_pure_dict(variables)
    scaling = vae.config.scaling_factor, vae.config.shift_factor
    validation_loss = step.make_validation(graphdef, config.diffusion, *scaling)
    fixed = latents.fixed_batches(validation, config.validation_images, config.batch_size)
    text = manifest["text_encoder"]
    grid = samples.make_sample_grid(
        graphdef,
        vae,
        load_text_encoder(text["name"], text["max_length"]),
        config.diffusion,
        config.sample_prompts or ("",),
        config.sample_guidance,
        latent_shape,
    )

    def sample(current: state.TrainState) -> dict[str, np.ndarray]:
        return {"ema": grid(current.ema)}

    result = loop.train(
        state.create(params, optimizer.make(config.optim, config.num_steps)),
        step.make_train_step(step.diffusion_loss(graphdef, config.diffusion, *scaling), config),
        Loader(
            train,
            config.batch_size,
            seed=config.seed,
            transform=latents.caption_drawer(config.max_length),
            collate=latents.collate,
            read_threads=config.loop.read_threads,
            prefetch=config.loop.prefetch,
        ),
        config,
        workdir,
        validate=lambda current: validation_loss(current.ema, fixed),
        sample=sample if config.loop.sample_every else None,
    )
    if int(result.step) < config.num_steps:
        return False
    diffusion = config_lib.to_dict(config.diffusion)
    description = {
        "model": "unet",
        "denoiser": config_lib.to_dict(config.denoiser),
        "diffusion": {key: diffusion[key] for key in _PROCESS},
        "vae": vae.config.to_dict(),
        "text_encoder": text,
        "default_size": latent_shape[0] * vae.downsampling_factor,
    }
    vae_params = nnx.to_pure_dict(nnx.split(vae)[1])
    weights = {"raw": result.params, "ema": result.ema}
    model.save(workdir / "model", description, weights, vae_params)
    return True


def main(argv: list[str]) -> None:
    """Parses the flags and trains."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # the libraries' own notes would break the bar
    compile_cache.enable()
    try:
        config = config_lib.from_mapping(runs.DenoiserRunConfig, _CONFIG.value)
        run(config, Path(_WORKDIR.value), Path(_DATA_DIR.value))
    except (ValueError, OSError, loop.NonFiniteLossError) as error:
        logging.error("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    app.run(main, flags_parser=config_lib.parse_flags)
