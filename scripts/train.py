"""Trains a denoiser on latents: python -m scripts.train --config configs/demo.py.

--data_dir is the output of scripts.prepare, or a folder of DiffusionGen2's latent shards (.pt).
Writes to --workdir: checkpoints/, metrics.jsonl, samples/ and, at the end, model/, a folder that
`dg2_jax.Pipeline.load` opens. If the configuration has `lora`, also lora.safetensors, which is
merged in model/; for Stable Diffusion it has kohya's layout, which other tools read too. Run again
after an interruption, it continues.
"""

from pathlib import Path

import numpy as np
from absl import flags

from dg2_jax.interop.diffusers_vae import STABLE_DIFFUSION
from dg2_jax.models import adapters
from dg2_jax.scripts.launch import launch
from dg2_jax.training import data as data_lib
from dg2_jax.training import export, loop, runs, samples, starting, state, step, texts

_VAE = flags.DEFINE_string(
    "vae", STABLE_DIFFUSION, "Autoencoder of latent shards, a folder or hub id."
)
_TEXT_ENCODER = flags.DEFINE_string(
    "text_encoder", "clip", "Text encoder of latent shards: clip, a folder or hub id."
)


def run(
    config: runs.DenoiserRunConfig, workdir: Path, data_dir: Path, vae: str, text_encoder: str
) -> bool:
    """Trains and exports; returns whether the run came to its end."""
    data = data_lib.open_data(data_dir, config, vae, text_encoder)
    config = config.in_steps(len(data.train))
    network, params = starting.build_denoiser(config)
    trained = texts.trained(config, data, network, params)
    tuned = trained.tuned
    loss = step.diffusion_loss(trained.network, config.diffusion, data.scaling)
    validation_loss = step.make_validation(trained.network, config.diffusion, data.scaling)
    grid = None
    if config.loop.sample_every:
        grid = samples.make_sample_grid(network, config, data)
        samples.write_prompts(workdir, config, data)

    def sample(current: state.TrainState) -> dict[str, np.ndarray]:
        return {"ema": grid(*trained.parted(tuned.weights(current.ema)))} if grid else {}

    result = loop.train(
        starting.initial_state(config, tuned.params),
        tuned.make_step(loss, config),
        starting.make_loader(config, data.train, data.transform, data.collate),
        config,
        workdir,
        validate=lambda current: validation_loss(tuned.weights(current.ema), data.validation),
        sample=sample,
    )
    finished = int(result.step) == config.num_steps
    if finished:
        raw, _ = trained.parted(tuned.weights(result.params))
        average = trained.parted(tuned.weights(result.ema))
        export.export(workdir / "model", config, data, raw, *average)
        if config.lora is not None:
            adapters.save(workdir / "lora.safetensors", result.ema, config.lora, config.model)
    return finished


if __name__ == "__main__":
    launch(
        lambda config, workdir, data_dir: run(
            config, workdir, data_dir, _VAE.value, _TEXT_ENCODER.value
        ),
        runs.DenoiserRunConfig,
        config="demo",
        workdir="runs/demo",
        data_dir="data/encoded",
        data_help="The output of scripts.prepare, or latent shards.",
    )
