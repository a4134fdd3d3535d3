"""scripts/train.py on latent shards and on an encoded data set, with both architectures."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from dg2_jax import config as config_lib
from dg2_jax.configs import dg2_toy
from dg2_jax.interop.diffusers_vae import published_config
from dg2_jax.models import folder as model
from dg2_jax.scripts import train
from dg2_jax.text.loading import load_text_encoder
from dg2_jax.training import data, samples, starting
from dg2_jax.training.checkpoint import CheckpointManager
from dg2_jax.training.process import DiffusionConfig
from dg2_jax.training.runs import DenoiserRunConfig
from tests.data import pictures
from tests.interop import published
from tests.interop.torch_files import write_torch
from tests.training import spread

DG2 = {"channels": (16, 32), "n_layers": 1, "n_groups": 4, "n_heads": 2, "t_embd": 16}
OURS = {
    "in_channels": 4,
    "channels": (16, 32),
    "attention_levels": (False, True),
    "head_dim": 16,
    "embed_dim": 32,
    "norm_groups": 4,
}
UNET = {"model": "unet"}


def make_config(denoiser, **changes):
    """The toy configuration, made tiny."""
    values = dg2_toy.get_config().to_dict()
    name = changes.pop("model", "dg2_unet")
    if name == "dg2_unet":
        denoiser = values["denoiser"] | denoiser
    values |= {
        "model": name,
        "num_steps": 120,
        "batch_size": 16,
        "validation_images": 16,
        "denoiser": denoiser,
    }
    values["optim"] |= {"learning_rate": 3e-3}
    values["loop"] = {"wandb": "disabled", "log_every": 10, "validate_every": 0}
    values["loop"] |= changes.pop("loop", {})
    return config_lib.from_mapping(DenoiserRunConfig, values | changes)


def open_lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return published.clip_folder(tmp_path_factory.mktemp("published") / "clip")


def test_dg2_unet_learns_from_latent_shards(tmp_path, clip):
    shards = published.write_shards(tmp_path / "shards")
    run = make_config(DG2 | {"n_embd": published.CLIP_WIDTH})
    assert train.run(run, tmp_path / "run", shards, str(published.VAE), str(clip))
    losses = [line["loss"] for line in open_lines(tmp_path / "run")]
    # The caption decides the latent but for its noise; to know nothing of it costs 0.24.
    assert losses[-1] < 0.1 < 0.2 < losses[0]
    loaded = model.load(tmp_path / "run" / "model")
    assert loaded.config["model"] == "dg2_unet"
    assert (loaded.default_size, loaded.latent_shape) == (16, (8, 8, 4))
    assert loaded.config["text_encoder"]["name"] == str(clip)
    assert loaded.config["text_encoder"]["max_length"] == published.CLIP_LENGTH


def test_dropped_captions_of_shards_are_the_files_null(tmp_path):
    shards = published.write_shards(tmp_path / "shards", count=1)
    run = make_config(DG2 | {"n_embd": published.CLIP_WIDTH})
    opened = data.open_data(shards, run, str(published.VAE))
    assert (len(opened.train), len(opened.validation)) == (48, 1)
    rng = np.random.default_rng(0)
    drawn = [opened.transform(opened.train[0], rng)["context"] for _ in range(1000)]
    assert 60 < sum(not context.any() for context in drawn) < 140
    # A denoiser with a null context of its own drops captions in its loss instead.
    ours = make_config(OURS | {"context_dim": published.CLIP_WIDTH}, model="unet")
    assert data.open_data(shards, ours, str(published.VAE)).transform is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "unet", "denoiser": OURS | {"context_dim": 8}},
            r"denoiser\.context_dim must be 32",
        ),
        ({"denoiser": DG2 | {"n_embd": 512}}, r"denoiser\.n_embd must be 32"),
        (
            {"model": "unet", "denoiser": OURS | {"in_channels": 8}},
            r"denoiser\.in_channels must be 4",
        ),
        ({"validation_images": 64}, "validation_images must be below the number of examples"),
        ({"denoiser": DG2 | {"legacy_time_table": True}}, "legacy_time_table must be false"),
    ],
)
def test_what_does_not_fit_the_shards_is_named(tmp_path, changes, message):
    shards = published.write_shards(tmp_path / "shards", count=1)
    denoiser = changes.pop("denoiser", DG2 | {"n_embd": published.CLIP_WIDTH})
    with pytest.raises(ValueError, match=message):
        data.open_data(shards, make_config(denoiser, **changes), str(published.VAE))


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, clip):
    """A data set of 40 pictures of 16 pixels, encoded by the tiny autoencoder and CLIP."""
    root = tmp_path_factory.mktemp("encoded")
    pictures.prepare(pictures.write_folder(root / "pictures", 40), root / "out", clip)
    return root / "out"


def test_our_unet_on_an_encoded_data_set(tmp_path, encoded):
    run = make_config(
        OURS | {"context_dim": published.CLIP_WIDTH},
        model="unet",
        num_steps=3,
        loop={"log_every": 1, "validate_every": 3, "sample_every": 3},
        sample_prompts=("a lake", "a volcano"),
        sample_guidance=(1.0, 3.0),
    )
    assert train.run(run, tmp_path, encoded, "unused", "unused")
    assert np.isfinite(open_lines(tmp_path)[-1]["val_loss"])
    with Image.open(tmp_path / "samples" / "ema_0000003.png") as grid:
        assert grid.size == (32, 32)
    loaded = model.load(tmp_path / "model")
    assert (loaded.config["model"], loaded.latent_shape) == ("unet", (8, 8, 4))
    quiet = dataclasses.replace(run.loop, validate_every=0, sample_every=0)  # less to compile
    again = dataclasses.replace(run, init_from=str(tmp_path / "model"), loop=quiet)
    jax.tree.map(np.testing.assert_array_equal, starting.weights(again), loaded.params["ema"])
    assert train.run(again, tmp_path / "again", encoded, "unused", "unused")
    scaled = dataclasses.replace(published_config(published.VAE), scaling_factor=0.5)
    with pytest.raises(ValueError, match=r"scaled by 0\.5 .*dg2 prepare --model="):
        starting.check_scaling(again, scaled)
    other = dataclasses.replace(again, denoiser=dataclasses.replace(run.denoiser, embed_dim=64))
    with pytest.raises(ValueError, match=r"denoiser\.embed_dim must be 32, as in init_from"):
        starting.weights(other)
    other = dataclasses.replace(again, diffusion=DiffusionConfig(prediction_type="epsilon"))
    with pytest.raises(ValueError, match=r"diffusion\.prediction_type must be .*, as in init_from"):
        starting.weights(other)


def test_dg2_unet_on_an_encoded_data_set(encoded):
    run = make_config(DG2 | {"n_embd": published.CLIP_WIDTH})
    opened = data.open_data(encoded, run)
    # It attends to padding: contexts are as long as those that the encoder gives in sampling.
    encoder = opened.load_text_encoder()
    assert opened.validation[0]["context"].shape[1] == encoder.max_length
    null = encoder.encode([""])
    tokens = np.asarray(null.context[0])[np.asarray(null.mask[0])]
    rng = np.random.default_rng(0)
    drawn = [opened.transform(opened.train[0], rng)["context"] for _ in range(200)]
    dropped = [context for context in drawn if context.shape == tokens.shape]
    assert 5 < len(dropped) < 40
    np.testing.assert_array_equal(dropped[0], tokens)


def test_two_processes_of_the_script_train_as_one(tmp_path, encoded):
    """One process learns of the others from flags, the other from Slurm's variables."""
    network = {"in_channels": 4, "width": 32, "depth": 1, "head_dim": 16, "embed_dim": 32}
    run = make_config(
        network | {"context_dim": published.CLIP_WIDTH},
        model="dit",
        num_steps=3,
        loop={"log_every": 1},
    )
    config = tmp_path / "config.py"
    config.write_text(
        "from ml_collections import ConfigDict\n\n\n"
        f"def get_config():\n    return ConfigDict({config_lib.to_dict(run)!r})\n"
    )
    host, port = spread.free_address()
    flags = [f"--coordinator_address={host}:{port}", "--num_processes=2", "--process_id=0"]
    slurm = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": host, "SLURM_NTASKS": "2"}
    slurm |= {"SLURM_PROCID": "1", "SLURM_LOCALID": "0", "JAX_COORDINATOR_PORT": str(port)}
    command = [sys.executable, "-m", "scripts.train", f"--config={config}"]
    command += [f"--data_dir={encoded}", f"--workdir={tmp_path / 'two'}"]
    started = [
        subprocess.Popen(
            [*command, *options],
            cwd=Path(__file__).parents[2],
            env=os.environ | variables,
            stderr=subprocess.PIPE,
            text=True,
        )
        for options, variables in ((flags, {}), (["--distributed"], slurm))
    ]
    assert train.run(run, tmp_path / "one", encoded, "unused", "unused")
    for process in started:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    alone, together = (open_lines(tmp_path / name) for name in ("one", "two"))
    assert [line["step"] for line in together] == [1, 2, 3]
    for name in ("loss", "grad_norm"):
        losses = [[line[name] for line in actual] for actual in (together, alone)]
        np.testing.assert_allclose(*losses, rtol=1e-5)
    jax.tree.map(  # stored as bfloat16
        lambda a, b: np.testing.assert_allclose(a, b, rtol=8e-3, atol=1e-6),
        *(model.load(tmp_path / name / "model").params["ema"] for name in ("one", "two")),
    )


def test_samples_show_held_out_captions_of_the_data(tmp_path, encoded):
    manifest = json.loads((encoded / "manifest.json").read_text())
    assert set(manifest["held_out_captions"]) == {"a lake"}  # the first of each picture
    run = make_config(OURS | {"context_dim": published.CLIP_WIDTH}, **UNET, sample_guidance=(1.0,))
    opened = data.open_data(encoded, run)
    assert samples.prompts_of(run, opened) == tuple(manifest["held_out_captions"])
    (tmp_path / "prompts.txt").write_bytes(b"\xef\xbb\xbfa volcano\r\n\r\na dawn\r\n")
    named = dataclasses.replace(
        run, sample_prompts=("a lake",), sample_prompts_file=str(tmp_path / "prompts.txt")
    )
    assert samples.prompts_of(named, opened) == ("a lake", "a volcano", "a dawn")
    samples.write_prompts(tmp_path, named, opened)
    assert (tmp_path / "samples" / "prompts.txt").read_text() == "a lake\na volcano\na dawn\n"


def test_samples_of_evaluation_prompts_with_their_tokens(tmp_path, encoded, clip):
    encoding = load_text_encoder(str(clip), published.CLIP_LENGTH).encode(["a lake", "a dawn", ""])
    tokens = np.asarray(encoding.context)
    content = {"prompts": ["one", "two"], "text_embd": tokens[:2], "null_embd": tokens[2:]}
    path = write_torch(tmp_path / "eval.pt", content)
    run = make_config(
        OURS | {"context_dim": published.CLIP_WIDTH},
        **UNET,
        sample_prompts_file=str(path),
        sample_guidance=(3.0,),
    )
    opened = data.open_data(encoded, run)
    assert samples.prompts_of(run, opened) == ("one", "two")
    network, params = starting.build_denoiser(run)
    params = jax.tree.map(lambda a: a + 0.1, params)  # new ones give zeros
    grid = samples.make_sample_grid(network, run, opened)(params)
    assert grid.shape == (16, 32, 3)
    write_torch(path, content | {"text_embd": tokens[[0, 0]]})  # only the second is another
    other = samples.make_sample_grid(network, run, opened)(params)
    np.testing.assert_array_equal(grid[:, :16], other[:, :16])
    assert (grid[:, 16:] != other[:, 16:]).any()
    with pytest.raises(ValueError, match="sample_prompts must be empty"):
        dataclasses.replace(run, sample_prompts=("a lake",))
    write_torch(path, content | {"text_embd": tokens[:2, :, :8], "null_embd": tokens[2:, :, :8]})
    with pytest.raises(ValueError, match=r"sample_prompts_file must be of tokens of width 32"):
        samples.make_sample_grid(network, run, opened)


def test_epochs_are_a_unit_of_the_script(tmp_path, encoded):
    run = make_config(
        OURS | {"context_dim": published.CLIP_WIDTH},
        **UNET,
        num_steps=0,
        num_epochs=0.5,
        batch_size=4,
        loop={"log_every": 1, "checkpoint_epochs": 0.25},
    )
    train_size = len(data.open_data(encoded, run).train)
    assert train.run(run, tmp_path, encoded, "unused", "unused")
    steps = -(-train_size // 8)
    assert open_lines(tmp_path)[-1]["step"] == steps
    first = -(-train_size // 16)
    expected = sorted({*range(first, steps + 1, first), steps})
    assert CheckpointManager(tmp_path / "checkpoints").steps() == expected[-3:]


def test_figures_of_a_schedule_are_trained_and_sampled_with(tmp_path, encoded):
    run = make_config(
        OURS | {"context_dim": published.CLIP_WIDTH},
        **UNET,
        num_steps=1,
        diffusion={"schedule": "linear", "beta1": 0.001, "beta2": 0.02},
    )
    assert train.run(run, tmp_path, encoded, "unused", "unused")
    betas = np.linspace(0.001, 0.02, 1000)
    loaded = model.load(tmp_path / "model").schedule.alpha_bar
    np.testing.assert_allclose(loaded, np.cumprod(1.0 - betas), rtol=1e-12)
    np.testing.assert_allclose(run.diffusion.noise_schedule().alpha_bar, loaded)
