"""The pipeline on a small untrained model: what it promises holds for any weights."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion import sampling
from dg2_jax.models import folder as model
from dg2_jax.models.model import WeightSets
from dg2_jax.pictures import images
from dg2_jax.pipeline import Pipeline
from tests import tiny_model


def test_result(pipe):
    result = pipe(["a volcano", "a lake"], num_images=2, num_inference_steps=3, seed=7)
    assert result.images.shape == (4, 32, 32, 3)
    assert result.images.dtype == np.uint8
    assert result.seeds == (7, 8, 9, 10)
    assert result.prompts == ("a volcano", "a volcano", "a lake", "a lake")
    assert np.isfinite(result.latents).all()
    assert len({image.tobytes() for image in result.images}) == 4


def test_an_image_depends_on_its_seed_and_not_on_its_batch(pipe):
    together = pipe("a volcano at night", num_images=5, num_inference_steps=4, seed=3)
    for i in (0, 2, 4):
        alone = pipe("a volcano at night", num_inference_steps=4, seed=3 + i)
        np.testing.assert_allclose(alone.latents[0], together.latents[i], atol=1e-5)


def test_a_diffusion_transformer_samples_as_a_unet_does(tmp_path):
    tiny_model.save(tmp_path, "dit")
    pipe = Pipeline.load(tmp_path)
    together = pipe(["a volcano", "a lake"], num_inference_steps=4, seed=3)
    alone = pipe("a lake", num_inference_steps=4, seed=4)
    np.testing.assert_allclose(alone.latents[0], together.latents[1], atol=1e-5)
    raw = pipe("a lake", num_inference_steps=4, seed=4, weights="raw")
    assert np.abs(raw.latents - alone.latents).max() > 1e-4


def test_stochastic_solvers_too(pipe):
    together = pipe("hills", num_images=3, num_inference_steps=4, seed=3, solver="ddpm")
    alone = pipe("hills", num_inference_steps=4, seed=5, solver="ddpm")
    np.testing.assert_allclose(alone.latents[0], together.latents[2], atol=1e-5)


def test_weights_are_those_of_their_set(pipe):
    sets = pipe.model.params
    swapped = WeightSets(("ema", "raw"), {"ema": sets["raw"], "raw": sets["ema"]}.__getitem__)
    other = Pipeline(dataclasses.replace(pipe.model, params=swapped), pipe.text_encoder)
    raw = pipe("a lake", num_inference_steps=3, weights="raw").latents
    np.testing.assert_array_equal(other("a lake", num_inference_steps=3).latents, raw)
    assert np.abs(pipe("a lake", num_inference_steps=3).latents - raw).max() > 1e-2


def test_guidance_one_is_the_conditional_model_and_ignores_the_negative_prompt(pipe):
    plain = pipe("a lake", num_inference_steps=3, guidance_scale=1.0).latents
    other = pipe("a lake", "fog", num_inference_steps=3, guidance_scale=1.0).latents
    np.testing.assert_array_equal(plain, other)
    nearly = pipe("a lake", num_inference_steps=3, guidance_scale=1.0 + 1e-6).latents
    np.testing.assert_allclose(plain, nearly, atol=1e-4)


def test_guidance_with_the_prompt_as_its_own_negative_is_unguided(pipe):
    plain = pipe("a lake", num_inference_steps=3, guidance_scale=1.0).latents
    same = pipe("a lake", "a lake", num_inference_steps=3, guidance_scale=7.0).latents
    np.testing.assert_allclose(plain, same, atol=1e-4)


def test_the_programmatic_sampler_is_the_same_function(pipe):
    result = pipe("a glacier", "fog", num_images=2, num_inference_steps=5, solver="unipc", seed=4)
    sample = pipe.sampler(num_inference_steps=5, solver="unipc")
    keys = sampling.image_keys(jnp.array([4, 5], jnp.uint32))
    text = pipe.encode(["a glacier"] * 2, ["fog"] * 2)
    latents = sample(pipe.model.params["ema"], text, keys)
    np.testing.assert_allclose(latents, result.latents, atol=1e-4)
    gradient = jax.grad(lambda p: jnp.sum(sample(p, text, keys)))(pipe.model.params["ema"])
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_pngs_carry_their_settings(pipe, tmp_path):
    result = pipe("a lake, «at» dawn", num_images=2, num_inference_steps=2, seed=41)
    paths = result.save(tmp_path) + result.save(tmp_path)
    assert len(set(paths)) == 4
    read = images.read_metadata(paths[1])
    assert read["seed"] == 42
    again = pipe(read["prompt"], num_inference_steps=read["num_inference_steps"], seed=read["seed"])
    assert np.abs(again.images[0].astype(int) - result.images[1].astype(int)).max() <= 1


def test_a_drawn_seed_is_returned(pipe):
    first = pipe("a lake", num_inference_steps=1, seed=None)
    second = pipe("a lake", num_inference_steps=1, seed=None)
    assert first.seeds != second.seeds
    again = pipe("a lake", num_inference_steps=1, seed=first.seeds[0])
    np.testing.assert_array_equal(again.latents, first.latents)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": []}, "prompt must be a text or a non-empty list"),
        ({"prompt": ["a", "b"], "negative_prompt": ["c"]}, "negative_prompt must be one text"),
        ({"num_inference_steps": 0}, "num_inference_steps must be an integer from 1 to 1000"),
        ({"num_inference_steps": 10**9}, "num_inference_steps must be an integer from 1 to 1000"),
        ({"num_inference_steps": True}, "num_inference_steps must be an integer"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a number from -100"),
        ({"guidance_scale": float("inf")}, "guidance_scale must be a number from -100"),
        ({"guidance_scale": -100.5}, "guidance_scale must be a number from -100"),
        ({"solver": "plms"}, "solver must be one of ddim, ddpm"),
        ({"weights": "best"}, "weights must be one of ema, raw"),
        ({"num_images": 0}, "num_images must be an integer from 1 to 256"),
        ({"num_images": 10**6}, "num_images must be an integer from 1 to 256"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"seed": 2**32}, "seed must be an integer from 0"),
        ({"eta": 2.0}, "eta must be a number from 0"),
        ({"spacing": "sigmoid"}, "spacing must be one of linspace"),
        ({"guidance_interval": (0.9, 0.1)}, "guidance_interval must be .low, high. with"),
    ],
)
def test_bad_input_names_the_parameter(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(**{"prompt": "a lake", **arguments})


def copy(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_weights_have_their_own_default_settings(folder, pipe, tmp_path):
    tiny_model.add_fast(copy(folder, tmp_path))
    fast = Pipeline.load(tmp_path)
    made = fast("a lake", weights="fast")
    assert tiny_model.FAST.items() <= dataclasses.asdict(made.settings).items()
    written_out = fast("a lake", weights="fast", **tiny_model.FAST)
    np.testing.assert_array_equal(made.latents, written_out.latents)
    assert fast("a lake", weights="fast", num_inference_steps=2).settings.num_inference_steps == 2
    usual = fast("a lake", num_inference_steps=3)
    assert (usual.settings.guidance_scale, usual.settings.solver) == (2.5, "dpmpp_2m")
    np.testing.assert_array_equal(usual.latents, pipe("a lake", num_inference_steps=3).latents)
    sample = fast.sampler(weights="fast")
    text, keys = fast.encode(["a lake"], [""]), sampling.image_keys(jnp.zeros(1, jnp.uint32))
    np.testing.assert_allclose(
        sample(fast.model.params["fast"], text, keys), made.latents, atol=1e-4
    )
    with pytest.raises(ValueError, match="weights must be one of ema, raw with the model"):
        pipe("a lake", weights="fast")


def test_only_weights_that_are_used_are_read(folder, tmp_path):
    (copy(folder, tmp_path) / "denoiser.raw.safetensors").write_bytes(b"damaged")
    pipe = Pipeline.load(tmp_path)
    assert pipe("a lake", num_inference_steps=3).images.shape == (1, 32, 32, 3)
    with pytest.raises(model.ModelError, match=r"denoiser\.raw\.safetensors is damaged"):
        pipe("a lake", num_inference_steps=3, weights="raw")


def test_missing_model():
    with pytest.raises(FileNotFoundError, match="model must be one of demo, or a folder"):
        Pipeline.load("no/such/folder")


@pytest.mark.parametrize("name", ["denoiser.ema.safetensors", "vae.safetensors"])
def test_damaged_weights_are_named(folder, tmp_path, name):
    path = copy(folder, tmp_path) / name
    data = bytearray(path.read_bytes())
    data[-5] ^= 1  # one bit, which no file format would notice
    path.write_bytes(bytes(data))
    with pytest.raises(model.ModelError, match=name):
        model.load(tmp_path).params["ema"]
    path.write_bytes(bytes(data[: len(data) // 2]))
    with pytest.raises(model.ModelError, match=name):
        model.load(tmp_path).params["ema"]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=name):
        model.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"denoiser": {"chanels": [8]}}, "chanels"),
        ({"model": "gan"}, "model must be one of unet"),
        ({"diffusion": {"schedule": "odd", "prediction_type": "epsilon"}}, "schedule must be"),
        ({"format": 99}, "format 1"),
        ({"files": {}}, "files must list denoiser.ema.safetensors"),
        ({"sampling": {"fast": {"steps": 4}}}, "sampling must hold num_inference_steps"),
    ],
)
def test_wrong_configuration_is_named(folder, tmp_path, change, message):
    path = copy(folder, tmp_path) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(model.ModelError, match=message):
        model.load(tmp_path)
    path.write_text("{")
    with pytest.raises(model.ModelError, match="not good JSON"):
        model.load(tmp_path)
