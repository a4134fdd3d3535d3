"""LoRA files of others: one adapter in each layout gives the outputs that diffusers recorded."""

import functools
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sd_files import GOLDEN, PROMPTS, error, reference

from dg2_jax.interop import stable_diffusion
from dg2_jax.interop.stable_diffusion import lora, original_names

FOLDER = GOLDEN / "sd1_tiny"
LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"


@functools.cache
def model():
    return stable_diffusion.load(FOLDER)


@functools.cache
def kohya():
    return load_file(FOLDER / "lora_kohya.safetensors")


def written(tmp_path, tensors, metadata=None):
    save_file(tensors, tmp_path / "lora.safetensors", metadata)
    return tmp_path / "lora.safetensors"


def difference(changed):
    """What an adapter adds to the kernels, UNet's and text encoders'."""
    parameters = [(m.params, m.text.params) for m in (changed, model())]
    return jax.tree.map(lambda a, b: np.asarray(a, np.float32) - np.asarray(b), *parameters)


def assert_adds_the_same(found, expected, scale=1.0):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, scale * b, atol=2e-6),
        difference(found),
        difference(expected),
    )


@pytest.mark.parametrize("layout", ["kohya", "peft"])
def test_outputs(layout):
    given, adapted = reference("sd1_tiny"), reference("sd1_tiny", "reference_lora.npz")
    path, weight = FOLDER / f"lora_{layout}.safetensors", float(adapted["weight"])
    changed = model().with_lora(path, weight)
    context, _ = changed.encode(PROMPTS)
    assert error(context, adapted["context"]) < 1e-4
    assert error(context, given["context"]) > 1e-3
    output = changed.apply(changed.params, given["x"], given["t"], context)
    assert error(output, adapted["unet"]) < 1e-4
    assert error(output, given["unet"]) > 1e-3


def test_weights_add_up_and_compile_nothing():
    path = FOLDER / "lora_kohya.safetensors"
    once = model().with_lora(path, 0.8)
    compiled = lora._added._cache_size(), model()._run._cache_size()
    twice = model().with_lora(path, 0.3).with_lora(path, 0.5)
    assert_adds_the_same(twice, once)
    assert (lora._added._cache_size(), model()._run._cache_size()) == compiled
    assert twice._run is model()._run
    assert twice.name.endswith("+lora_kohya:0.3+lora_kohya:0.5")
    assert_adds_the_same(model().with_lora(path, 0.0), model())


def peft():
    return load_file(FOLDER / "lora_peft.safetensors")


def old_processors(tensors):
    """diffusers' files of 2023: matrices in attention processors."""
    out = {}
    for key, value in tensors.items():
        if ".attn" not in key and "self_attn" not in key:
            continue
        module, _, rest = key.rpartition(".lora_")
        way = {"A": "down", "B": "up"}[rest[0]]
        layer, _, name = module.removesuffix(".0").rpartition(".")
        if key.startswith("unet."):
            out[f"{layer}.processor.{name}_lora.{way}.weight"] = value
        else:
            name = f"to_{name.removesuffix('_proj')}"
            out[f"{layer}.{name}_lora.{way}.weight"] = value
    return out


def linear_layers(tensors):
    """diffusers' files of late 2023."""
    pairs = {".lora_A.": ".lora_linear_layer.down.", ".lora_B.": ".lora_linear_layer.up."}
    for new, old in pairs.items():
        tensors = {key.replace(new, old): value for key, value in tensors.items()}
    return tensors


def of_peft_itself(tensors):
    """PEFT's own files: of the UNet alone."""
    of_unet = {k: v for k, v in tensors.items() if k.startswith("unet.")}
    return {k.replace("unet.", "base_model.model.", 1): v for k, v in of_unet.items()}


@pytest.mark.parametrize("spelling", [old_processors, linear_layers, of_peft_itself])
def test_older_spellings(spelling, tmp_path):
    spelt = spelling(peft())
    attention = spelling is old_processors
    kept = {
        k: v
        for k, v in peft().items()
        if (not attention or ".attn" in k or "self_attn" in k)
        and (spelling is not of_peft_itself or k.startswith("unet."))
    }
    assert len(spelt) == len(kept) > 100
    expected = model().with_lora(written(tmp_path, kept))
    assert_adds_the_same(model().with_lora(written(tmp_path, spelt)), expected)


def test_kohya_s_original_names_of_layers(tmp_path):
    old = {new: name for name, new in original_names.unet_modules(model().config).items()}
    modules = {new.replace(".", "_"): name.replace(".", "_") for new, name in old.items()}
    spelt = {}
    for key, value in kohya().items():
        module, _, leaf = key.partition(".")
        name = modules.get(module.removeprefix("lora_unet_"))
        module = module if name is None else f"lora_unet_{name}"
        module = module.replace("lora_te_encoder", "lora_te1_text_model_encoder")
        spelt[f"{module}.{leaf}"] = value
    assert any("input_blocks" in key for key in spelt)
    assert any("lora_te1_text_model" in key for key in spelt)
    expected = model().with_lora(FOLDER / "lora_kohya.safetensors")
    assert_adds_the_same(model().with_lora(written(tmp_path, spelt)), expected)


def test_a_convolution(tmp_path):
    rng = np.random.default_rng(0)
    down, up = rng.normal(size=(2, 16, 3, 3)), rng.normal(size=(32, 2, 1, 1))
    name = "lora_unet_down_blocks_2_resnets_0_conv1"
    tensors = {
        f"{name}.lora_down.weight": down.astype(np.float32),
        f"{name}.lora_up.weight": up.astype(np.float32),
        f"{name}.alpha": np.array(1.0, np.float32),
    }
    changed = difference(model().with_lora(written(tmp_path, tensors), 0.5))[0]
    kernel = changed["down_blocks"][2]["resnets"][0]["conv1"]["kernel"]
    # In PyTorch's layout: the product of the up and the down convolution.
    expected = 0.25 * np.einsum("or,rihw->oihw", up[..., 0, 0], down)
    np.testing.assert_allclose(kernel, expected.transpose(2, 3, 1, 0), atol=1e-5)
    others = jax.tree.leaves(changed)
    assert sum(np.any(leaf != 0) for leaf in others) == 1


def test_alpha_in_the_metadata(tmp_path):
    layer = f"unet.{LAYER}.to_q"
    tensors = {f"{layer}.lora_{n}.weight": peft()[f"{layer}.lora_{n}.weight"] for n in "AB"}
    plain = model().with_lora(written(tmp_path, tensors))
    stated = {"lora_adapter_metadata": json.dumps({"unet.r": 4, "unet.lora_alpha": 2})}
    halved = model().with_lora(written(tmp_path, tensors, stated))
    assert_adds_the_same(halved, plain, 0.5)
    # PEFT names layers by the end of their names.
    values = {"unet.lora_alpha": 2, "unet.alpha_pattern": {"attn1.to_q": 12, "to_k": 7}}
    tripled = {"lora_adapter_metadata": json.dumps(values)}
    assert_adds_the_same(model().with_lora(written(tmp_path, tensors, tripled)), plain, 3.0)
    for values, message in (
        ('{"unet.use_rslora": true}', "rank-stabilised"),
        ('{"unet.lora_alpha": [1]}', "its metadata is unusable"),
        ("[1]", "its metadata is unusable"),
    ):
        stated = {"lora_adapter_metadata": values}
        with pytest.raises(lora.LoraError, match=message):
            model().with_lora(written(tmp_path, tensors, stated))


def test_two_text_encoders(tmp_path):
    xl = stable_diffusion.load(GOLDEN / "xl_small")
    a, b = np.ones((1, 24), np.float32), np.ones((24, 1), np.float32)
    name = "lora_te2_text_model_encoder_layers_1_self_attn_q_proj"
    tensors = {f"{name}.lora_down.weight": a, f"{name}.lora_up.weight": b}
    changed = xl.with_lora(written(tmp_path, tensors))
    first, second = (
        jax.tree.map(lambda a, b: np.asarray(a - b), *pair)
        for pair in zip(changed.text.params, xl.text.params, strict=True)
    )
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(first))
    np.testing.assert_allclose(second["layers"][1]["attention"]["q_proj"]["kernel"], 1.0, atol=1e-6)
    assert sum(np.any(leaf) for leaf in jax.tree.leaves(second)) == 1
    with pytest.raises(lora.LoraError, match="2 text encoders"):
        model().with_lora(tmp_path / "lora.safetensors")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("lora_unet_x.dora_scale", "is a DoRA file"),
        ("unet.x.lora_magnitude_vector", "is a DoRA file"),
        ("lora_unet_x.lokr_w1", "is a LoKr file"),
        ("lora_unet_x.hada_w1_a", "is a LoHa file"),
        ("lora_transformer_blocks_0.lora_down.weight", "is a LoRA file of a transformer model"),
        ("model.diffusion_model.out.0.weight", "has a tensor model.diffusion_model.out.0.weight"),
        ("lora_unet_x.lora_down.weight", "has one of two matrices only for x|no layer x"),
    ],
)
def test_other_files_are_refused_by_name(key, message, tmp_path):
    with pytest.raises(lora.LoraError, match=message):
        model().with_lora(written(tmp_path, {key: np.zeros((1, 1), np.float32)}))


def test_an_adapter_of_another_width(tmp_path):
    name = f"lora_unet_{LAYER.replace('.', '_')}_to_q"
    tensors = {
        f"{name}.lora_down.weight": np.zeros((4, 320), np.float32),
        f"{name}.lora_up.weight": np.zeros((320, 4), np.float32),
    }
    with pytest.raises(lora.LoraError, match=r"to_q has matrices \(4, 320\) and .* 16 to 16"):
        model().with_lora(written(tmp_path, tensors))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"to_q.lora_down.weight": np.full((4, 16), np.nan, np.float32)},
            "to_q must be finite real",
        ),
        ({"to_q.lora_up.weight": np.zeros((16, 4), np.int8)}, "to_q must be finite real numbers"),
        ({"to_q.alpha": np.array(np.inf, np.float32)}, "alpha of .*to_q must be one finite number"),
        ({"to_q.alpha": np.zeros(2, np.float32)}, "alpha of .*to_q must be one finite number"),
        (
            {
                "to_q.lora_down.weight": np.zeros((0, 16), np.float32),
                "to_q.lora_up.weight": np.zeros((16, 0), np.float32),
            },
            "does not fit the model",
        ),
    ],
)
def test_matrices_that_are_no_good(changes, message, tmp_path):
    stem = f"lora_unet_{LAYER.replace('.', '_')}_"
    changed = kohya() | {stem + name: value for name, value in changes.items()}
    with pytest.raises(lora.LoraError, match=message):
        model().with_lora(written(tmp_path, changed))


def test_a_layer_that_is_named_twice(tmp_path):
    stem, way = f"lora_unet_{LAYER.replace('.', '_')}_to_q", "lora_down.weight"
    matrix = kohya()[f"{stem}.{way}"]
    modules = {new: old for old, new in original_names.unet_modules(model().config).items()}
    old = f"lora_unet_{modules[f'{LAYER}.to_q'].replace('.', '_')}"
    both = {f"{old}.{part}": kohya()[f"{stem}.{part}"] for part in (way, "lora_up.weight")}
    for more in ({f"{stem}.lora_A.weight": matrix}, both):
        with pytest.raises(lora.LoraError, match=r"names the layer \S+ twice"):
            model().with_lora(written(tmp_path, kohya() | more))


def test_a_file_that_is_missing_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no LoRA file"):
        model().with_lora(tmp_path / "none.safetensors")
    whole = (FOLDER / "lora_peft.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    with pytest.raises(lora.LoraError, match="its tensors take") as caught:
        model().with_lora(tmp_path / "cut.safetensors")
    assert str(caught.value).count("cut.safetensors") == 1
    with pytest.raises(ValueError, match="weight must be a finite number"):
        model().with_lora(FOLDER / "lora_peft.safetensors", float("nan"))
