"""What a model may be given as: all of it opens in one way, and what is not one is called so."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dg2_jax.controls import model_facts
from dg2_jax.interop.recognition import Kind, kind_of
from dg2_jax.models import sd_import, sources, stable_diffusion
from dg2_jax.models.interface import CONTROL, MASK, SIZES
from dg2_jax.models.sources import SourceOptions
from dg2_jax.pipeline import Pipeline
from tests import tiny_model
from tests.sd_models import GOLDEN, WEIGHTS, inpainting

FEW = {"num_inference_steps": 2, "seed": 3}
SINGLE = GOLDEN / "sd1_tiny" / "single_file_fp16.safetensors"


@pytest.fixture
def single(tmp_path):
    """The one file, with what it cannot tell beside it."""
    path = shutil.copy(SINGLE, tmp_path / "one.safetensors")
    told = {"config": str(GOLDEN / "sd1_tiny")}
    (tmp_path / "one.json").write_text(json.dumps(told))
    return path


def fails(source, message, kind=(ValueError, FileNotFoundError), **options):
    with pytest.raises(kind, match=message) as caught:
        Pipeline.load(source, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["sd2_small", "xl_small"])
def test_what_is_known_before_the_weights_is_true_of_the_model(name):
    facts = model_facts.from_config("x", sources.config_of(GOLDEN / name))
    loaded = sources.load(GOLDEN / name)
    known = model_facts.facts_of(loaded.model)
    assert known.name == str(GOLDEN / name)
    assert facts.__dict__ | {"name": ""} == known.__dict__ | {"name": ""}
    assert facts.size == 32
    assert facts.most_clip_skip == loaded.text_encoder.most_clip_skip
    assert facts.abilities == ({CONTROL, SIZES} if name == "xl_small" else {CONTROL})
    lacking = (
        () if name == "xl_small" else ("original_size", "crops_coords_top_left", "target_size")
    )
    assert facts.lacks[: len(lacking)] == lacking


def test_a_converted_folder_is_the_same_model(tmp_path):
    for name in ("sd2_small", "xl_small"):
        sd_import.convert(GOLDEN / name, tmp_path / name)
        assert kind_of(tmp_path / name) is Kind.OWN
        converted, source = Pipeline.load(tmp_path / name), Pipeline.load(GOLDEN / name)
        again, first = (pipe("a (red:1.4) lake", "fog", **FEW) for pipe in (converted, source))
        np.testing.assert_array_equal(again.latents, first.latents)
        assert again.settings == first.settings
    file = tmp_path / "xl_small" / "denoiser.ema.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"denoiser\.ema\.safetensors is damaged"):
        Pipeline.load(tmp_path / "xl_small")("a lake")
    shutil.rmtree(tmp_path / "sd2_small" / "text_encoder")
    fails(tmp_path / "sd2_small", "has no folder text_encoder", FileNotFoundError)


def test_half_precision_stays_in_a_converted_folder(single, tmp_path):
    sd_import.convert(single, tmp_path / "out", SourceOptions(config=str(GOLDEN / "sd1_tiny")))
    model = sources.load(tmp_path / "out").model
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params["ema"])} == {np.dtype(np.float16)}


def test_options_are_arguments_or_beside_the_file(single):
    told = sources.config_of(single)
    assert told["diffusion"]["prediction_type"] == "epsilon"
    assert told["sampling"]["ema"]["guidance_scale"] == 7.5
    beside = {"config": str(GOLDEN / "sd1_tiny"), "prediction_type": "v_prediction",
              "zero_terminal_snr": True, "few_steps": 6}  # fmt: skip
    single.with_suffix(".json").write_text(json.dumps(beside))
    told = sources.config_of(single)
    assert told["diffusion"]["prediction_type"] == "v_prediction"
    assert told["diffusion"]["alpha_bar"][-1] == 0.0
    assert told["diffusion"]["spacing"] == "trailing"
    usual = {"num_inference_steps": 6, "guidance_scale": 1.0, "solver": "euler"}
    assert told["sampling"]["ema"] == usual
    model = sources.load(single, SourceOptions(config=str(GOLDEN / "sd1_tiny"))).model
    assert model.prediction_type == "epsilon"
    single.with_suffix(".json").write_text('{"prediction": 1}')
    fails(single, "one.json: unknown key one.json.prediction; .* allows: prediction_type")
    single.with_suffix(".json").write_text("[")
    fails(single, "one.json: ")
    fails("demo", "says it all: no options", few_steps=4)
    fails("demo", "few_step is not a parameter .* did you mean few_steps", few_step=4)
    assert Pipeline.load(single, config=GOLDEN / "sd1_tiny").model.prediction_type == "epsilon"


def test_the_current_folder_may_be_a_model(tmp_path, monkeypatch):
    shutil.copytree(GOLDEN / "sd2_small", tmp_path / "sd")
    monkeypatch.chdir(tmp_path / "sd")
    assert sources.load(".").model.name == "."
    assert sources.stamp(".") is not None
    (tmp_path / "sd.json").write_text('{"few_steps": 4}')
    assert sources.config_of(".")["sampling"]["ema"]["num_inference_steps"] == 4
    monkeypatch.chdir(tmp_path)
    fails("", "is not a model folder")


def test_options_without_a_use_or_of_a_wrong_type_are_refused(single):
    fails(single, "variant is an option of a folder", variant="fp16")
    for name, value in (("config", "x"), ("num_attention_heads", [4, 4]), ("norm_num_groups", 8),
                        ("sample_size", 8)):  # fmt: skip
        fails(GOLDEN / "sd2_small", f"{name} is an option of a file", **{name: value})
    for name, value in (("few_steps", "3"), ("num_attention_heads", "x"), ("norm_num_groups", 0),
                        ("num_attention_heads", [0]), ("prediction_type", 3)):  # fmt: skip
        fails(single, name, **{name: value})


def scheduler(tmp_path, **values):
    folder = shutil.copytree(GOLDEN / "sd2_small", tmp_path / values["_class_name"])
    path = folder / "scheduler" / "scheduler_config.json"
    kept = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    path.write_text(json.dumps({**kept, **values}))
    return folder


def test_few_step_models_are_known_by_their_scheduler(tmp_path):
    turbo = scheduler(tmp_path, _class_name="EulerDiscreteScheduler", timestep_spacing="trailing")
    lcm = scheduler(tmp_path, _class_name="LCMScheduler")
    for folder, solver in ((turbo, "euler"), (lcm, "lcm")):
        usual = sources.config_of(folder)["sampling"]["ema"]
        assert usual == {"num_inference_steps": 4, "guidance_scale": 1.0, "solver": solver}
    pipe = Pipeline.load(lcm)
    assert pipe("a lake").settings.num_inference_steps == 4
    with pytest.raises(ValueError, match="num_inference_steps must be at most 50 with"):
        pipe("a lake", num_inference_steps=51)
    image = np.zeros((32, 32, 3), np.uint8)
    assert pipe("a lake", image=image, strength_mode="full", strength=0.1).images.any()


def test_a_network_that_takes_the_guidance_scale(tmp_path):
    folder = scheduler(tmp_path, _class_name="LCMScheduler")
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "time_cond_proj_dim": 6}))
    tensors = load_file(folder / "unet" / WEIGHTS)
    width = tensors["time_embedding.linear_1.weight"].shape[1]
    cond = np.random.default_rng(0).normal(0, 1, (width, 6)).astype(np.float32)
    save_file(tensors | {"time_embedding.cond_proj.weight": cond}, folder / "unet" / WEIGHTS)
    pipe = Pipeline.load(folder)
    first, other, foggy = (
        pipe("a lake", negative, guidance_scale=scale, **FEW)
        for negative, scale in (("", 2.0), ("", 9.0), ("fog", 2.0))
    )
    assert np.abs(first.latents - other.latents).max() > 1e-3
    np.testing.assert_array_equal(first.latents, foggy.latents)  # the scale is an input: one branch
    assert pipe("a lake").settings.guidance_scale == 8.5


def test_the_models_of_a_folder(single, tmp_path):
    tiny_model.save(tmp_path / "own")
    shutil.copytree(GOLDEN / "xl_small", tmp_path / "xl")
    shutil.copy(GOLDEN / "sd1_tiny" / "lora_kohya.safetensors", tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    (tmp_path / "notes").mkdir()
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert list(sources.names_in(tmp_path)) == ["one", "own", "xl"]
    assert sources.names_in(tmp_path / "absent") == {}


def test_an_inpainting_model_is_known(tmp_path):
    folder = inpainting(tmp_path / "inpaint")
    facts = model_facts.from_config("x", sources.config_of(folder))
    assert MASK in facts.abilities
    assert facts.latents == (4, "v_prediction")
    values = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps({**values, "in_channels": 8}))
    kernel = load_file(folder / "unet" / WEIGHTS)
    kernel["conv_in.weight"] = kernel["conv_in.weight"][:, :8]
    save_file(kernel, folder / "unet" / WEIGHTS)
    fails(folder, "the denoiser takes 8 channels, the autoencoder has 4")


def test_what_is_no_model_is_called_what_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fails("nowhere.safetensors", "there is no nowhere.safetensors", FileNotFoundError)
    fails("owner/no-such-model", "is not on this machine", FileNotFoundError)
    fails(tmp_path, "is not a model folder: it has no config.json", FileNotFoundError)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    fails(tmp_path / "model.gguf", "must end in .safetensors or .ckpt")
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x02")
    fails(tmp_path / "model.ckpt", "model.ckpt")
    flux = tmp_path / "flux"
    flux.mkdir()
    (flux / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    fails(flux, "holds a FluxPipeline; of diffusers folders, Stable Diffusion")
    fails(GOLDEN / "sd1_tiny" / "unet", "holds a UNet2DConditionModel alone")
    fails(GOLDEN / "sd1_tiny" / "lora_kohya.safetensors", "is a LoRA file, which is added")
    fails(GOLDEN / "sd1_tiny" / "text_encoder", "a CLIP text encoder")


def test_networks_compute_in_what_the_device_is_fast_at(monkeypatch):
    """As on GPU and TPU: bfloat16 inside, float32 between the steps."""
    full = Pipeline.load(GOLDEN / "xl_small")("a lake", guidance_scale=2.0, **FEW).latents
    monkeypatch.setattr(stable_diffusion, "compute_dtype", lambda: jnp.bfloat16)
    half = Pipeline.load(GOLDEN / "xl_small")("a lake", guidance_scale=2.0, **FEW).latents
    assert half.dtype == np.float32
    assert 0 < np.abs(half - full).max() < 0.1 * np.abs(full).max()
