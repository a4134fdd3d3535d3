"""Every key of the configurations on the command line, whether the file has it or not."""

import importlib
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from dg2_jax import config as config_lib
from dg2_jax.nn.unet import UNetConfig
from dg2_jax.scripts import config_flag
from dg2_jax.training import runs

CONFIGS = {
    "demo": runs.DenoiserRunConfig,
    "demo_dit": runs.DenoiserRunConfig,
    "dg2_toy": runs.DenoiserRunConfig,
    "demo_lora": runs.DenoiserRunConfig,
    "demo_fast": runs.DistillationRunConfig,
    "demo_vae": runs.AutoencoderRunConfig,
    "probe": runs.ProbeRunConfig,
}


def parsed(monkeypatch, name, *arguments):
    """What a script makes of its command line."""
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    monkeypatch.setattr(config_flags.config_flags, "FLAGS", flags.FLAGS)
    argv = ["script", f"--config=configs/{name}.py", *arguments]
    monkeypatch.setattr(sys, "argv", argv)
    holder = config_flag.define(CONFIGS[name], f"configs/{name}.py", flags.FLAGS)
    flags.FLAGS(argv)
    return config_lib.from_mapping(CONFIGS[name], holder.value.to_dict())


def value_of(config, name):
    for part in name.split("."):
        config = getattr(config, part)
    return config


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_can_be_given_its_value_again(monkeypatch, name):
    file = importlib.import_module(f"configs.{name}").get_config()
    before = config_lib.from_mapping(CONFIGS[name], file.to_dict())
    written = []
    for key, value in _flat(config_lib.to_dict(before)):
        epochs = key.rpartition(".")[2] in config_lib.STEPS_OR_EPOCHS.values()
        if not epochs and not isinstance(value, dict) and key != "lora":
            text = (
                f"({','.join(map(repr, value))},)" if isinstance(value, list) and value else value
            )
            written.append(f"--config.{key}={'()' if value == [] else text}")
    assert len(written) > 40
    assert parsed(monkeypatch, name, *written) == before


def _flat(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@pytest.mark.parametrize(
    ("argument", "key", "expected"),
    [
        ("--config.loop.skip_damaged", "loop.skip_damaged", True),
        ("--noconfig.loop.skip_damaged", "loop.skip_damaged", False),
        ("--config.loop.tensorboard=true", "loop.tensorboard", True),
        ("--config.loop.wandb_project=mine", "loop.wandb_project", "mine"),
        ("--config.loop.peak_tflops=3", "loop.peak_tflops", 3.0),
        ("--config.diffusion.min_snr_gamma=None", "diffusion.min_snr_gamma", None),
        ("--config.diffusion.min_snr_gamma=7", "diffusion.min_snr_gamma", 7.0),
        ("--config.diffusion.beta2=0.02", "diffusion.beta2", 0.02),
        ("--config.ema.posthoc=(0.05,0.1)", "ema.posthoc", (0.05, 0.1)),
        ("--config.optim.frozen=encoder", "optim.frozen", ("encoder",)),
        ("--config.devices.fsdp=2", "devices.fsdp", 2),
        ("--config.compute_dtype=bfloat16", "compute_dtype", "bfloat16"),
        ("--config.lora.rank=4", "lora.rank", 4),
        ("--config.num_epochs=2.5", "num_epochs", 2.5),
        ("--config.loop.validate_epochs=1", "loop.validate_epochs", 1.0),
    ],
)
def test_keys_that_the_file_lacks(monkeypatch, argument, key, expected):
    more = ["--config.init_from=demo"] if "lora" in key else []
    config = parsed(monkeypatch, "demo", argument, *more)
    assert value_of(config, key) == expected
    assert type(value_of(config, key)) is type(expected)


def test_epochs_of_the_command_line_take_the_place_of_the_files_steps(monkeypatch):
    config = parsed(
        monkeypatch,
        "demo",
        *("--config.num_epochs=3", "--config.batch_size=8", "--config.loop.sample_epochs=1"),
    ).in_steps(100)
    assert (config.num_steps, config.num_epochs) == (38, 0.0)
    assert (config.loop.sample_every, config.loop.sample_epochs) == (13, 0.0)
    assert config.loop.checkpoint_every == parsed(monkeypatch, "demo").loop.checkpoint_every
    with pytest.raises(ValueError, match=r"num_steps and config\.num_epochs: only one"):
        parsed(monkeypatch, "demo", "--config.num_epochs=3", "--config.num_steps=5")


@pytest.mark.parametrize("argument", ["--config.loop.keeep=3", "--config.denoizer.depth=3"])
def test_unknown_keys_are_refused(monkeypatch, argument):
    with pytest.raises((AttributeError, KeyError)):
        parsed(monkeypatch, "demo", argument)


def test_the_denoiser_of_the_file_decides_which_keys_there_are(monkeypatch):
    config = parsed(monkeypatch, "demo", "--config.denoiser.head_dim=32")
    assert isinstance(config.denoiser, UNetConfig)
    config = parsed(monkeypatch, "demo_dit", "--config.denoiser.remat_policy=cheap")
    assert config.denoiser.remat_policy == "cheap"
