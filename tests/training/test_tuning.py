"""Fine-tuning: adapters alone are trained, on latents of another size than the model's own."""

import jax
import numpy as np
import pytest

from dg2_jax import config as config_lib
from dg2_jax.configs import demo_lora
from dg2_jax.models import folder as model
from dg2_jax.models import lora
from dg2_jax.scripts import train
from dg2_jax.training import export, optimizer, starting, state, tuning
from dg2_jax.training.checkpoint import CheckpointManager
from dg2_jax.training.config import DevicesConfig, OptimConfig, RunConfig
from dg2_jax.training.runs import DenoiserRunConfig
from tests.interop import published
from tests.training.test_step import assert_close, dit_loss, make_batch

LORA = {"rank": 2, "alpha": 4.0, "targets": ("self", "cross")}


def make_config(folder, **changes):
    """The LoRA configuration for the small model of a folder."""
    values = demo_lora.get_config().to_dict()
    start = model.load(folder)
    values |= {"denoiser": start.config["denoiser"], "init_from": str(folder), "lora": LORA}
    values |= {"num_steps": 6, "batch_size": 16, "validation_images": 16}
    values["optim"] |= {"learning_rate": 2e-2, "warmup_steps": 1}
    values["diffusion"]["zero_terminal_snr"] = False  # as the model
    values["loop"] |= {"log_every": 3, "validate_every": 0, "sample_every": 0, "wandb": "disabled"}
    return config_lib.from_mapping(DenoiserRunConfig, values | changes)


def test_adapters_alone_are_trained_at_a_new_size(folder, tmp_path):
    base = model.load(folder)
    assert base.latent_shape == (4, 4, 4)
    shards = published.write_shards(tmp_path / "shards", width=384)  # latents of 8x8x4
    config = make_config(folder)
    assert train.run(config, tmp_path / "run", shards, str(published.VAE), "minilm")
    exported = model.load(tmp_path / "run" / "model")
    assert exported.latent_shape == (8, 8, 4)
    adapters, its_config = lora.load(tmp_path / "run/lora.safetensors", base.params["ema"], "unet")
    assert its_config == config.lora
    assert all(np.abs(factors["b"]).max() > 0 for factors in adapters.values())
    merged = lora.apply(base.params["ema"], adapters, LORA["alpha"] / LORA["rank"])
    jax.tree.map(  # stored as bfloat16
        lambda a, b: np.testing.assert_allclose(a, b, rtol=4e-3, atol=1e-6),
        exported.params["ema"],
        merged,
    )
    # The checkpoint, with the optimiser's moments and the average in it, is of adapters alone.
    transform = optimizer.make(config.optim, config.num_steps)
    like = state.create(lora.create(base.params["ema"], config.lora, 0, "unet"), transform)
    saved = CheckpointManager(tmp_path / "run" / "checkpoints").restore(like).state
    jax.tree.map(np.testing.assert_array_equal, saved.ema, adapters)


def test_adapters_do_not_depend_on_accumulation():
    loss_fn, params = dit_loss()

    def trained(parts):
        """The adapters after three steps: B is zero at first, so that A starts with the second."""
        config = RunConfig(
            num_steps=3,
            batch_size=32,
            optim=OptimConfig(learning_rate=1e-2, warmup_steps=0, weight_decay=0.0, eps=1e-3),
            devices=DevicesConfig(accumulation_steps=parts),
        )
        tuned = tuning.adapters(params, lora.LoraConfig(rank=2), 0, "dit")
        step_fn = tuned.make_step(loss_fn, config)
        current = starting.initial_state(config, tuned.params)
        for i in range(config.num_steps):
            current, _ = step_fn(current, make_batch(i))
        return current.params

    whole, start = trained(1), lora.create(params, lora.LoraConfig(rank=2), 0, "dit")
    assert all(np.abs(whole[name]["a"] - start[name]["a"]).max() > 1e-4 for name in whole)
    for parts in (2, 4):
        assert_close(trained(parts), whole, rtol=1e-4)


def test_any_checkpoint_is_exported(folder, tmp_path):
    base = model.load(folder)
    shards = published.write_shards(tmp_path / "shards", count=1, width=384)
    config = make_config(folder, lora=None)
    transform = optimizer.make(config.optim, config.num_steps)
    saved = state.create(base.params["raw"], transform)._replace(ema=base.params["ema"])
    checkpoints = CheckpointManager(tmp_path / "run" / "checkpoints")
    for step in (2, 4):
        checkpoints.save(step, saved, config_lib.to_dict(config), {})
    checkpoints.wait()
    places = tmp_path / "run", shards, tmp_path / "out"
    assert export.export_checkpoint(*places, 2, str(published.VAE), "minilm") == 2
    exported = model.load(tmp_path / "out")
    for name in ("ema", "raw"):
        jax.tree.map(  # stored as bfloat16
            lambda a, b: np.testing.assert_allclose(a, b, rtol=4e-3),
            exported.params[name],
            base.params[name],
        )
    with pytest.raises(FileNotFoundError, match=r"step must be one of \[2, 4\]"):
        export.export_checkpoint(*places, 3)


def test_adapters_need_a_model_to_adapt(folder):
    with pytest.raises(ValueError, match="lora needs init_from"):
        make_config(folder, init_from="")
