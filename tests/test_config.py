"""Configurations: what is allowed, and one clear error for what is not."""

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from dg2_jax import config
from dg2_jax.models.architectures import ARCHITECTURES
from dg2_jax.nn.dg2_unet import DG2UNetConfig
from dg2_jax.nn.dit import DiTConfig
from dg2_jax.nn.unet import UNetConfig
from dg2_jax.training.config import LoopConfig, OptimConfig, RunConfig
from dg2_jax.training.runs import AutoencoderRunConfig, DenoiserRunConfig, DistillationRunConfig
from dg2_jax.training.starting import check_data

CONFIGS = {
    "dg2_jax.configs.demo": DenoiserRunConfig,
    "dg2_jax.configs.demo_256": DenoiserRunConfig,
    "dg2_jax.configs.demo_vae": AutoencoderRunConfig,
    "dg2_jax.configs.demo_vae_crisp": AutoencoderRunConfig,
    "dg2_jax.configs.demo_vae_decoder": AutoencoderRunConfig,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configurations_are_good(name):
    values = importlib.import_module(name).get_config().to_dict()
    built = config.from_mapping(CONFIGS[name], values)
    assert built.num_steps == values["num_steps"]
    assert built.optim.learning_rate == values["optim"]["learning_rate"]
    assert config.from_mapping(CONFIGS[name], config.to_dict(built)) == built


def test_left_out_keys_keep_their_defaults_and_lists_become_tuples():
    values = {"denoiser": {"channels": [32, 64], "attention_levels": [False, True]}}
    built = config.from_mapping(DenoiserRunConfig, values)
    assert built.denoiser.channels == (32, 64)
    assert built.optim == OptimConfig()


def test_integers_are_taken_for_floats():
    rate = config.from_mapping(OptimConfig, {"learning_rate": 1}).learning_rate
    assert rate == 1.0
    assert isinstance(rate, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_stepz": 3}, r"unknown key config\.num_stepz; config allows: num_steps, num_epochs"),
        ({"optim": {"lr": 1e-3}}, r"unknown key config\.optim\.lr; config\.optim allows: name"),
        ({"num_steps": 1.5}, r"config\.num_steps must be of type int, got 1\.5"),
        ({"num_steps": True}, r"config\.num_steps must be of type int, got True"),
        ({"num_steps": 0}, r"num_steps must be at least 1, got 0"),
        ({"seed": -1}, r"seed must be in \[0, 2\*\*31\), got -1"),
        ({"optim": 3}, r"config\.optim must be of type OptimConfig, got 3"),
        ({"optim": {"learning_rate": -1.0}}, r"optim\.learning_rate must be a positive number"),
        ({"optim": {"learning_rate": float("nan")}}, r"optim\.learning_rate must be finite"),
        ({"optim": {"learning_rate": "fast"}}, r"optim\.learning_rate must be of type float"),
        ({"optim": {"b1": 1.0}}, r"optim\.b1 must be in \[0, 1\), got 1\.0"),
        ({"ema": {"profile": "flat"}}, r"ema\.profile must be one of \('warmup', 'power'\)"),
        ({"ema": {"sigma_rel": 0.5}}, r"ema\.sigma_rel must be in \(0, 0\.28\), got 0\.5"),
        ({"loop": {"wandb": "maybe"}}, r"loop\.wandb must be one of"),
        ({"loop": {"keep": 0}}, r"loop\.keep must be at least 1, got 0"),
        (
            {"loop": {"checkpoint_folder": "s3://bucket/run"}},
            r"loop\.checkpoint_folder must be a path or a gs:// address, got 's3:",
        ),
    ],
)
def test_bad_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        config.from_mapping(RunConfig, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"denoiser": {"channels": 64}}, r"config\.denoiser\.channels must be a list, got 64"),
        ({"denoiser": {"channels": ["a"]}}, r"config\.denoiser\.channels\[0\] must be of type int"),
        ({"denoiser": {"norm_groups": 7}}, r"config\.denoiser: norm_groups=7 must divide"),
        ({"diffusion": {"caption_dropout": 2.0}}, r"caption_dropout must be in \[0, 1\], got 2\.0"),
        ({"diffusion": {"schedule": "steep"}}, r"diffusion\.schedule must be one of .*got 'steep'"),
        ({"diffusion": {"prediction_type": "x"}}, r"prediction_type must be one of .*got 'x'"),
        ({"diffusion": {"num_train_timesteps": 1}}, r"num_train_timesteps must be at least 2"),
        (
            {"diffusion": {"prediction_type": "epsilon", "zero_terminal_snr": True}},
            r"zero_terminal_snr needs .*v_prediction or sample",
        ),
        ({"diffusion": {"min_snr_gamma": 0.0}}, r"min_snr_gamma must be .*got 0\.0"),
    ],
)
def test_bad_denoiser_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        config.from_mapping(DenoiserRunConfig, values)


def test_model_names_the_class_of_denoiser():
    built = config.from_mapping(DenoiserRunConfig, {"model": "dit", "denoiser": {"depth": 3}})
    assert built.denoiser == DiTConfig(depth=3)
    assert built.architecture is ARCHITECTURES["dit"]
    assert config.from_mapping(DenoiserRunConfig, {"model": "dit"}).denoiser == DiTConfig()
    assert DenoiserRunConfig().denoiser == UNetConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "vit"}, r"config\.model must be one of unet, dit, dg2_unet, sd_unet; got 'vit'"),
        (
            {"model": "dit", "denoiser": {"channels": [8]}},
            r"unknown key config\.denoiser\.channels; config\.denoiser allows: in_channels, patch",
        ),
        ({"denoiser": {"depth": 3}}, r"unknown key config\.denoiser\.depth"),
    ],
)
def test_a_denoiser_of_another_model_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        config.from_mapping(DenoiserRunConfig, values)


def test_a_denoiser_of_another_class_is_refused():
    with pytest.raises(ValueError, match="denoiser must be a DiTConfig, as model is 'dit', got"):
        DenoiserRunConfig(model="dit", denoiser=UNetConfig())


@pytest.mark.parametrize("name", ["demo", "demo_dit", "demo_fast", "demo_lora", "dg2_toy"])
def test_saved_configurations_without_the_key_model_are_read(name):
    cls = DistillationRunConfig if name == "demo_fast" else DenoiserRunConfig
    values = importlib.import_module(f"dg2_jax.configs.{name}").get_config().to_dict()
    run = config.from_mapping(cls, values)
    saved = config.to_dict(run)
    assert cls.from_saved(saved) == run
    del saved["model"]
    assert cls.from_saved(saved) == run


def test_distillation_needs_a_learnt_null():
    with pytest.raises(ValueError, match="model must have a learnt null context, got 'dg2_unet'"):
        DistillationRunConfig(model="dg2_unet", denoiser=DG2UNetConfig(), init_from="demo")


def test_none_is_allowed_where_the_type_says_so():
    built = config.from_mapping(DenoiserRunConfig, {"diffusion": {"min_snr_gamma": None}})
    assert built.diffusion.min_snr_gamma is None


def test_missing_keys_are_named():
    @dataclasses.dataclass
    class Needs:
        width: int

    with pytest.raises(ValueError, match=r"missing key config\.width"):
        config.from_mapping(Needs, {})


def test_denoiser_must_fit_the_data():
    with pytest.raises(ValueError, match=r"denoiser\.in_channels must be 4, as the encoded data"):
        check_data(DenoiserRunConfig(), (16, 16, 4), 384)


def test_differences_leave_the_loop_out():
    saved = config.to_dict(RunConfig())
    now = config.to_dict(dataclasses.replace(RunConfig(num_steps=7), loop=LoopConfig(log_every=3)))
    assert config.differences(saved, now) == ["num_steps: saved 1000, now 7"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.optim.lr=3", "unknown configuration key 'lr' in --config.optim.lr=3"),
        ("--config.optimm.b1=0.5", "unknown configuration key 'optimm' in --config.optimm.b1=0.5"),
        ("--config.optim.b1=fast", "could not convert string to float: 'fast'"),
    ],
)
def test_bad_overrides_are_named_on_the_command_line(override, message):
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "scripts.train", "--config=configs/demo.py", override]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
