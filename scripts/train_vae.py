r"""Trains an autoencoder on `dg2_scenes` or on your own pictures.

    python -m scripts.train_vae --config configs/demo_vae.py --data_dir runs/data
    python -m scripts.train_vae --config configs/demo_vae.py --workdir runs/my_vae \
        --config.source=my_pictures --config.size=256

Writes to --workdir: checkpoints/, metrics.jsonl, samples/ and, at the end, vae.safetensors (the
averaged weights, bfloat16) and vae.json. Run again after an interruption, it continues.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dg2_jax.data import encoding, loader
from dg2_jax.data.dead_leaves import Both, DeadLeaves
from dg2_jax.data.pixels import open_pixels
from dg2_jax.data.scenes import builder
from dg2_jax.data.sources.spec import SourceSpec
from dg2_jax.evaluation import metrics
from dg2_jax.evaluation.probe import load_probe
from dg2_jax.models.model import Params
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.precision import with_compute_dtype
from dg2_jax.pictures.images import from_uint8, to_uint8
from dg2_jax.scripts.launch import launch
from dg2_jax.training import adversarial, autoencoder, loop, runs, starting, state, step


def _pictures(
    config: runs.AutoencoderRunConfig, workdir: Path, data_dir: Path
) -> tuple[loader.Source, loader.Source]:
    """The training and the held-out pictures."""
    if config.source:
        return open_pixels(SourceSpec(config.source, str(data_dir)), config.size, workdir)
    train, held_out = (
        builder.load(split, data_dir, config.dataset) for split in ("train", "validation")
    )
    return train, held_out


def run(config: runs.AutoencoderRunConfig, workdir: Path, data_dir: Path) -> bool:
    """Trains and exports; returns whether the run came to its end."""
    source, held_out = _pictures(config, workdir, data_dir)
    size = source[0]["image"].shape[0]
    if config.dead_leaves:
        source = Both(source, DeadLeaves(config.dead_leaves, size, config.seed))
    config = config.in_steps(len(source))
    network, params = state.network(
        lambda rngs: with_compute_dtype(AutoencoderKL(config.vae, rngs=rngs), config.compute_dtype),
        config.seed,
    )
    vae, params = starting.autoencoder(config, params)
    decoder_only, stage = "encoder" in config.optim.frozen, config.adversarial
    optimizer = None
    if stage is None:
        loss_fn = step.autoencoder_loss(
            network,
            autoencoder.autoencoder_loss,
            weights=config.loss,
            decoder_only=decoder_only,
        )
    else:
        judge, judged_by = state.network(
            lambda rngs: with_compute_dtype(
                adversarial.Discriminator(stage, rngs=rngs), config.compute_dtype
            ),
            config.seed + 1,
        )
        params = {**params, adversarial.DISCRIMINATOR: judged_by}
        optimizer = adversarial.make_optimizer(config, stage)
        loss_fn = adversarial.make_loss(
            network,
            judge,
            config.loss,
            stage,
            decoder_only=decoder_only,
            probe=load_probe() if stage.perceptual else None,
        )
    images = [held_out[i]["image"] for i in range(min(config.validation_images, len(held_out)))]
    batches = [jnp.asarray(np.stack(images[i : i + 32])) for i in range(0, len(images), 32)]

    def bind(params: Params) -> AutoencoderKL:
        return network.bind({k: v for k, v in params.items() if k != adversarial.DISCRIMINATOR})

    @jax.jit
    def rebuild(params, images):
        model, pixels = bind(params), from_uint8(images)
        rebuilt = jnp.clip(model.decode(model.encode(pixels).mode()), -1.0, 1.0)
        return metrics.psnr(rebuilt, pixels), metrics.sharpness(rebuilt, pixels), rebuilt

    @jax.jit
    def half_turn_error(params, images):
        model, pixels = bind(params), from_uint8(images)
        return metrics.equivariance_error(model, pixels, lambda x: x[:, ::-1, ::-1])

    def validate(current: state.TrainState) -> dict[str, float]:
        qualities = [jax.device_get(rebuild(current.ema, b)[:2]) for b in batches]
        return {
            "val_psnr": float(np.concatenate([psnr for psnr, _ in qualities]).mean()),
            "val_sharpness": float(np.mean([sharpness for _, sharpness in qualities])),
            "val_half_turn_error": float(half_turn_error(current.ema, batches[0])),
        }

    def sample(current: state.TrainState) -> dict[str, np.ndarray]:
        shown = batches[0][:8]
        rebuilt = np.asarray(to_uint8(rebuild(current.ema, shown)[2]))
        rows = [np.concatenate(list(row), axis=1) for row in (np.asarray(shown), rebuilt)]
        return {"reconstruction": np.concatenate(rows, axis=0)}

    transforms = [loader.only("image")]
    if config.crop:
        transforms.append(loader.random_crop(config.crop))
    if config.own_latents:
        cells = (config.crop or size) // config.vae.downsampling_factor
        drawn = np.load(config.own_latents, mmap_mode="r")
        transforms.append(adversarial.own_latents(drawn, cells))
    result = loop.train(
        starting.initial_state(config, params, optimizer),
        step.make_train_step(loss_fn, config, transform=optimizer),
        starting.make_loader(config, source, loader.in_turn(*transforms)),
        config,
        workdir,
        validate=validate,
        sample=sample,
    )
    if int(result.step) < config.num_steps:
        return False
    average = {k: v for k, v in result.ema.items() if k != adversarial.DISCRIMINATOR}
    encoding.save_autoencoder(workdir, vae, average)
    return True


if __name__ == "__main__":
    launch(
        run,
        runs.AutoencoderRunConfig,
        config="demo_vae",
        workdir="runs/vae",
        data_dir="data",
        data_help="Where scripts.make_scenes built the pictures, or TFDS has its data sets.",
    )
