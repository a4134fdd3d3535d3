"""ControlNets and TAESD by the controls, on small Stable Diffusion models."""

import json
import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dg2_jax.checks import ParameterError
from dg2_jax.interop import stable_diffusion
from dg2_jax.interop.stable_diffusion import original_names
from dg2_jax.pictures import edges
from dg2_jax.pipeline import Pipeline
from tests.sd_models import GOLDEN, inpainting

FEW = {"num_inference_steps": 4, "seed": 5}
SIDE = 32
CONTROL = {"sd2_small": "controlnet_sd2", "xl_small": "controlnet_xl"}
STEM = "diffusion_pytorch_model.fp16.safetensors"


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controlnets")
    for name in CONTROL.values():
        shutil.copytree(GOLDEN / name, folder / name)
    original_file(GOLDEN / "controlnet_sd2", folder / "single.safetensors")
    return Pipeline.load(GOLDEN / "sd2_small", controlnets=folder)


def original_file(folder, path):
    """A ControlNet of diffusers in one file under the original names."""
    model = stable_diffusion.load(GOLDEN / "sd2_small")
    modules = {new: old for old, new in original_names.unet_modules(model.config).items()}
    tensors = {}
    for key, value in load_file(folder / STEM).items():
        module, _, leaf = key.rpartition(".")
        match module.split("."):
            case ["controlnet_cond_embedding", "conv_in"]:
                old = "input_hint_block.0"
            case ["controlnet_cond_embedding", "blocks", i]:
                old = f"input_hint_block.{2 * int(i) + 2}"
            case ["controlnet_cond_embedding", "conv_out"]:
                old = "input_hint_block.14"
            case ["controlnet_down_blocks", i]:
                old = f"zero_convs.{i}.0"
            case ["controlnet_mid_block"]:
                old = "middle_block_out.0"
            case _:
                old = modules[module]
        tensors[f"control_model.{old}.{leaf}"] = value
    save_file(tensors, path)


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def plain(pipe):
    return pipe("a lake", **FEW).latents


def test_it_acts_by_scale_and_on_a_share_of_the_steps(pipe, plain):
    def latents(**controls):
        given = {"controlnet": "controlnet_sd2", "control_image": picture(), **controls}
        return pipe("a lake", **FEW, **given).latents

    full = latents()
    assert np.abs(full - plain).max() > 1e-2
    np.testing.assert_allclose(latents(controlnet_conditioning_scale=0.0), plain, atol=1e-5)
    np.testing.assert_allclose(latents(control_guidance_start=0.9), plain, atol=1e-5)
    half = latents(control_guidance_end=0.5)
    assert min(np.abs(half - full).max(), np.abs(half - plain).max()) > 1e-3
    assert np.abs(latents(control_image=picture(1)) - full).max() > 1e-3
    np.testing.assert_allclose(latents(controlnet="single"), full, atol=1e-5)
    np.testing.assert_allclose(latents(controlnet=str(GOLDEN / "controlnet_sd2")), full, atol=1e-5)


def test_the_first_step_is_the_network_s_own(pipe):
    """One unguided step: x₀ of the UNet with the residuals of `LoadedControlNet`."""
    model = stable_diffusion.load(GOLDEN / "sd2_small")
    control = model.load_controlnet(GOLDEN / "controlnet_sd2")
    one = {"num_inference_steps": 1, "guidance_scale": 1.0, "solver": "ddim", "seed": 5}
    given = {"controlnet": "controlnet_sd2", "control_image": picture(),
             "controlnet_conditioning_scale": 0.7}  # fmt: skip
    found = pipe("a lake", **one, **given, spacing="trailing").latents
    from dg2_jax.diffusion import prediction, sampling

    x = sampling.initial_noise(sampling.image_keys(jnp.array([5], jnp.uint32)), found.shape[1:])
    context, _ = model.encode(["a lake"])
    t = 999
    residuals = control.apply(control.params, x, t, context, picture()[None] / 255, 0.7)
    output = model.apply(model.params, x, t, context, residuals=residuals)
    a, s = (float(v[t]) for v in (model.schedule.alpha, model.schedule.sigma))
    x0 = prediction.to_x0(model.prediction_type, x, output, a, s)
    final = model.scheduler.stepping.ends_at("ddim")
    expected = final**0.5 * x0 + (1 - final) ** 0.5 * (x - a * x0) / s
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_xl_and_editing_and_an_inpainting_model(tmp_path):
    xl = Pipeline.load(GOLDEN / "xl_small")
    given = {"controlnet": str(GOLDEN / "controlnet_xl"), "control_image": picture()}
    assert np.abs(xl("a lake", **FEW, **given).latents - xl("a lake", **FEW).latents).max() > 1e-3
    paint = Pipeline.load(inpainting(tmp_path / "inpaint"))
    given["controlnet"] = str(GOLDEN / "controlnet_sd2")
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:16] = 255
    source = {"image": picture(2), "mask": mask}
    made = paint("a lake", **FEW, **source, **given)
    assert np.abs(made.latents - paint("a lake", **FEW, **source).latents).max() > 1e-3


@pytest.mark.parametrize(
    ("controls", "name", "message"),
    [
        ({"controlnet": None}, "control_image", "needs controlnet"),
        ({"control_image": None}, "control_image", "is required with controlnet"),
        ({"controlnet": "controlnet_xl"}, "controlnet", "cannot be used: .*cross_attention_dim is"),
        ({"controlnet": "no-such"}, "controlnet", "neither a folder nor a hub id"),
        ({"controlnet": str(GOLDEN / "sd2_small" / "unet")}, "controlnet", "UNet2DConditionModel"),
        ({"control_guidance_start": 0.5, "control_guidance_end": 0.5}, "control_guidance_start",
         "below control_guidance_end"),
        ({"controlnet_conditioning_scale": 3.0}, "controlnet_conditioning_scale", "from 0.0 to 2"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_named(pipe, controls, name, message):
    given = {"controlnet": "controlnet_sd2", "control_image": picture(), **controls}
    with pytest.raises(ParameterError, match=message) as caught:
        pipe("a lake", **FEW, **given)
    assert caught.value.name == name
    assert str(caught.value).count(str(GOLDEN)) <= 1


def test_a_picture_that_is_none_is_named(pipe):
    with pytest.raises(ValueError, match="control_image must be a PNG, JPEG or WebP picture"):
        pipe("a lake", **FEW, controlnet="controlnet_sd2", control_image=b"no picture")


def test_a_file_that_has_changed_is_read_again(tmp_path):
    nets = shutil.copytree(GOLDEN / "controlnet_sd2", tmp_path / "nets" / "edges")
    pipe = Pipeline.load(GOLDEN / "sd2_small", controlnets=nets.parent)
    given = {"controlnet": "edges", "control_image": picture()}
    first = pipe("a lake", **FEW, **given).latents
    control = pipe.controlnets.get("edges", pipe.model)
    assert pipe.controlnets.get("edges", pipe.model) is control
    path = nets / STEM
    save_file({key: 2 * value for key, value in load_file(path).items()}, path)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))  # whatever the clock's ticks
    assert np.abs(pipe("a lake", **FEW, **given).latents - first).max() > 1e-3


def test_it_does_not_go_with_anagrams_and_other_models(pipe, folder):
    given = {"controlnet": "controlnet_sd2", "control_image": picture()}
    with pytest.raises(ParameterError, match="controlnet cannot be combined with anagram"):
        pipe(anagram=(("a", "identity"), ("b", "rot180")), **FEW, **given)
    with pytest.raises(ParameterError, match="controlnet is no control of the model"):
        Pipeline.load(folder)("a lake", **FEW, **given)


def test_canny_edges():
    image = np.zeros((24, 24, 3), np.uint8)
    image[:, 12:] = 255
    found = edges.canny(image)
    assert found.shape == image.shape
    columns = np.flatnonzero(found[12, :, 0])
    assert 1 <= len(columns) <= 2
    assert np.abs(columns - 11.5).max() <= 1
    assert set(np.unique(found)) == {0, 255}


def small_taesd(folder):
    """A TAESD of two pixels to a cell, as the small models have them, of random weights."""
    folder.mkdir()
    config = json.loads((GOLDEN / "taesd_tiny" / "config.json").read_text())
    for key in ("encoder_block_out_channels", "decoder_block_out_channels", "block_out_channels"):
        config[key] = [8, 8]
    config |= {"num_encoder_blocks": [1, 1], "num_decoder_blocks": [1, 1]}
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)

    def conv(name, o, i, bias=True):
        kernel = rng.normal(0, 0.2, (o, i, 3, 3)).astype(np.float32)
        return {f"{name}.weight": kernel} | ({f"{name}.bias": kernel[:, 0, 0, 0]} if bias else {})

    def block(name):
        return {k: v for at in (0, 2, 4) for k, v in conv(f"{name}.conv.{at}", 8, 8).items()}

    # Of the decoder, layers 1 and 3 hold nothing: an activation and a doubling.
    tensors = conv("encoder.layers.0", 8, 3) | block("encoder.layers.1")
    tensors |= conv("encoder.layers.2", 8, 8, False) | block("encoder.layers.3")
    tensors |= conv("encoder.layers.4", 4, 8) | conv("decoder.layers.0", 8, 4)
    tensors |= block("decoder.layers.2") | conv("decoder.layers.4", 8, 8, False)
    tensors |= block("decoder.layers.5") | conv("decoder.layers.6", 3, 8)
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    return folder


def test_taesd_decodes_previews_and_pictures(tmp_path):
    tiny = small_taesd(tmp_path / "taesd")
    pipe = Pipeline.load(GOLDEN / "sd2_small", taesd=str(tiny))
    full, quick = (pipe("a lake", decoder=name, **FEW) for name in ("vae", "taesd"))
    np.testing.assert_array_equal(full.latents, quick.latents)
    assert quick.images.shape == full.images.shape
    assert (quick.images != full.images).any()
    shown = []
    seen = {"on_preview": lambda p: shown.append(p.images), "preview_every": 4}
    pipe("a lake", preview_mode="taesd", decoder="taesd", **seen, **FEW)
    np.testing.assert_array_equal(shown[-1], quick.images)
    plain = Pipeline.load(GOLDEN / "sd2_small")
    with pytest.raises(ParameterError, match="decoder is no control of the model"):
        plain("a lake", decoder="taesd")
    with pytest.raises(ParameterError, match="preview_mode must not be taesd"):
        plain("a lake", preview_mode="taesd", on_preview=print)
    with pytest.raises(ValueError, match="pixels to a latent cell"):
        Pipeline.load(GOLDEN / "sd2_small", taesd=str(GOLDEN / "taesd_tiny"))
