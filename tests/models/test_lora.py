"""Adapters: what is applied is W + w·(α/r)·A B, to attention layers and to nothing else."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.flax

from dg2_jax.models import folder as model
from dg2_jax.models import lora
from dg2_jax.models.interface import LORA_TARGETS
from dg2_jax.models.lora import LoraConfig
from dg2_jax.models.weights_file import flatten
from dg2_jax.pipeline import Pipeline
from dg2_jax.training import export
from tests import tiny_model
from tests.networks import random_params

CONFIG = LoraConfig(rank=2, alpha=3.0)
# Self-attention has a layer for q, k and v and one for the output; cross-attention one more.
LAYERS_A_BLOCK = {"self": 2, "cross": 3}


def make_params(name):
    network, config = tiny_model.DENOISERS[name]
    return random_params(lambda rngs: network(config, rngs=rngs))


def random_adapters(params, config=CONFIG, seed=0, name="unet"):
    """None of them zero."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32),
        lora.create(params, config, 0, name),
    )


@pytest.mark.parametrize("name", ["unet", "dit", "dg2_unet"])
def test_the_layers_of_attention_are_adapted(name):
    params = make_params(name)
    each = {target: lora.layers(params, (target,), name) for target in LORA_TARGETS}
    blocks = len(each["self"]) // LAYERS_A_BLOCK["self"]
    assert blocks > 0
    for target, found in each.items():
        assert len(found) == blocks * LAYERS_A_BLOCK[target]
    assert not each["self"].keys() & each["cross"].keys()
    assert lora.layers(params, LORA_TARGETS, name) == each["self"] | each["cross"]
    adapters = random_adapters(params, name=name)
    before, after = flatten(params), flatten(lora.apply(params, adapters, 0.5))
    for layer, (a, b) in ((n, (ab["a"], ab["b"])) for n, ab in adapters.items()):
        wanted = np.asarray(before.pop(f"{layer}.kernel")) + 0.5 * np.asarray(a) @ np.asarray(b)
        np.testing.assert_allclose(after[f"{layer}.kernel"], wanted, rtol=1e-5, atol=1e-5)
    for other, leaf in before.items():
        np.testing.assert_array_equal(after[other], leaf)


def test_new_adapters_change_nothing():
    params = make_params("unet")
    adapters = lora.create(params, CONFIG, 0, "unet")
    jax.tree.map(np.testing.assert_array_equal, lora.apply(params, adapters, 1.0), params)
    assert all(np.abs(factors["a"]).min() > 0 for factors in adapters.values())


def test_applied_equals_merged(pipe, folder, tmp_path):
    params = pipe.model.params
    adapters = random_adapters(params["ema"])
    lora.save(tmp_path / "style.safetensors", adapters, CONFIG, "unet")
    applied = pipe.with_lora(tmp_path / "style.safetensors", 0.5)
    made = applied("a lake", num_inference_steps=3)
    assert made.model == f"{pipe.model.name}+style:0.5"
    merged = {name: lora.apply(params[name], adapters, 0.5 * 3.0 / 2) for name in params}
    config = {k: v for k, v in pipe.model.config.items() if k not in ("format", "files")}
    model.save(tmp_path / "m", config, merged, pipe.model.autoencoder_params, jnp.float32)
    again = Pipeline.load(tmp_path / "m")("a lake", num_inference_steps=3)
    np.testing.assert_allclose(made.latents, again.latents, atol=1e-5)
    base = pipe("a lake", num_inference_steps=3)
    assert np.abs(made.latents - base.latents).max() > 1e-3
    off = pipe.with_lora(tmp_path / "style.safetensors", 0.0)("a lake", num_inference_steps=3)
    np.testing.assert_array_equal(off.latents, base.latents)
    back = applied.with_lora(tmp_path / "style.safetensors", -0.5)
    np.testing.assert_allclose(
        back("a lake", num_inference_steps=3).latents, base.latents, atol=1e-4
    )


def test_a_model_is_exported_with_its_adapters(pipe, folder, tmp_path):
    adapters = random_adapters(pipe.model.params["ema"])
    lora.save(tmp_path / "style.safetensors", adapters, CONFIG, "unet")
    out = tmp_path / "merged"
    adapted = lora.adapted(model.load(folder), tmp_path / "style.safetensors", 2.0)
    export.export_model(out, adapted, jnp.float32)
    export.write_card(out, "a test")
    made = model.load(out).params["raw"]
    wanted = lora.apply(pipe.model.params["raw"], adapters, 2 * 3.0 / 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), made, wanted)
    assert "v_prediction, curved schedule" in (out / "README.md").read_text()


def test_what_is_saved_is_loaded(tmp_path):
    params = make_params("dit")
    config = LoraConfig(3, 0.1, ("cross",))
    adapters = random_adapters(params, config, name="dit")
    lora.save(tmp_path / "a.safetensors", adapters, config, "dit")
    loaded, its_config = lora.load(tmp_path / "a.safetensors", params, "dit")
    assert its_config == config
    jax.tree.map(np.testing.assert_array_equal, loaded, adapters)


def change_metadata(**changes):
    def change(path):
        with safetensors.safe_open(str(path), "flax") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = {**file.metadata(), **changes}
        safetensors.flax.save_file(tensors, str(path), metadata)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "not a good safetensors file"),
        (lambda path: path.unlink(), "there is no LoRA file"),
        (change_metadata(format="other"), "holds no adapters of this project"),
        (change_metadata(architecture="dit"), "for a model of architecture dit, this one is unet"),
        (change_metadata(rank="4"), r"\.a has shape \(\d+, 2\), the model needs \(\d+, 4\)"),
        (change_metadata(rank="0"), r"lora\.rank must be at least 1"),
        (change_metadata(targets=json.dumps(["self"])), "the model needs None"),
    ],
)
def test_files_that_do_not_fit_are_named(pipe, tmp_path, change, message):
    path = tmp_path / "style.safetensors"
    lora.save(path, random_adapters(pipe.model.params["ema"]), CONFIG, "unet")
    change(path)
    with pytest.raises((lora.LoraError, FileNotFoundError), match=message):
        pipe.with_lora(path)


def test_adapters_of_a_wider_network_do_not_fit(tmp_path):
    lora.save(tmp_path / "a", random_adapters(make_params("unet")), CONFIG, "unet")
    network, config = tiny_model.DENOISERS["unet"]
    wide = dataclasses.replace(config, channels=(8, 32))
    wider = random_params(lambda rngs: network(wide, rngs=rngs))
    with pytest.raises(lora.LoraError, match=r"has shape \(16, 2\), the model needs \(32, 2\)"):
        lora.load(tmp_path / "a", wider, "unet")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, r"lora\.rank must be at least 1"),
        ({"alpha": 0.0}, r"lora\.alpha must be a number above 0"),
        ({"targets": ()}, r"lora\.targets must be one or more of self, cross"),
        ({"targets": ("mlp",)}, r"lora\.targets must be one or more of self, cross"),
    ],
)
def test_wrong_configuration_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        LoraConfig(**values)


def test_a_rank_above_a_layers_width_is_refused():
    with pytest.raises(ValueError, match=r"lora\.rank must be at most 16 with this network"):
        lora.create(make_params("unet"), LoraConfig(rank=17), 0, "unet")
