"""Single files: names as diffusers converts them, parts and numbers as of the folder."""

import gzip
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sd_files import GOLDEN, PROMPTS, error, original_file, reference
from torch_files import write_torch

from dg2_jax.interop import stable_diffusion
from dg2_jax.interop.clip_tokenizer import published_tokenizer
from dg2_jax.interop.diffusers_vae import parameter_name
from dg2_jax.interop.stable_diffusion import FileOptions, original_names
from dg2_jax.interop.stable_diffusion.single_file import read_single_file
from dg2_jax.nn.sd_config import SDUNetConfig

XL = SDUNetConfig(
    block_out_channels=(320, 640, 1280),
    layers_per_block=(2, 2, 2),
    down_depths=((), (2, 2), (10, 10)),
    mid_depths=(10,),
    up_depths=((10,) * 3, (2,) * 3, ()),
    num_attention_heads=(5, 10, 20),
    cross_attention_dim=2048,
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)


@pytest.mark.parametrize(("name", "config"), [("sd1", SDUNetConfig()), ("xl", XL)])
def test_modules_have_the_names_that_diffusers_gives_them(name, config):
    recorded = json.loads(gzip.decompress((GOLDEN / "names.json.gz").read_bytes()))[name]
    modules = original_names.unet_modules(config)
    assert {old: modules[old] for old in recorded} == recorded
    # What is left are shortcuts of blocks that keep their width, and inputs of other models.
    left = {new.rpartition(".")[2] for old, new in modules.items() if old not in recorded}
    assert left <= {"conv_shortcut", "cond_proj", "linear_1", "linear_2"}


def test_a_file_in_half_precision_is_the_folder_rounded():
    path = GOLDEN / "sd1_tiny" / "single_file_fp16.safetensors"
    given, model = reference("sd1_tiny"), stable_diffusion.load(path)
    folder = stable_diffusion.load(GOLDEN / "sd1_tiny")
    assert (model.config, model.vae.config) == (folder.config, folder.vae.config)
    pairs = zip(
        jax.tree.leaves((folder.params, folder.text.params)),
        jax.tree.leaves((model.params, model.text.params)),
        strict=True,
    )
    for full, half in pairs:
        assert half.dtype == np.float16
        np.testing.assert_array_equal(full.astype(np.float16), half)
    output = model.apply(model.params, given["x"], given["t"], given["context"])
    assert error(output, given["unet"]) < 5e-3
    assert error(model.encode(PROMPTS)[0], given["context"]) < 5e-3
    np.testing.assert_array_equal(model.schedule.alpha_bar, folder.schedule.alpha_bar)


@pytest.mark.parametrize("name", ["sd2_small", "xl_small"])
def test_a_file_of_two_and_of_xl_is_the_folder(name, tmp_path):
    stray = {"model_ema.decay": np.zeros(()), "alphas_cumprod": np.zeros(3)}
    path = original_file(GOLDEN / name, tmp_path / "model.safetensors", **stray)
    model = stable_diffusion.load(path, file_options=FileOptions(config=GOLDEN / name))
    folder = stable_diffusion.load(GOLDEN / name)
    assert (model.config, model.vae.config) == (folder.config, folder.vae.config)
    trees = [(m.params, m.text.params) for m in (model, folder)]
    jax.tree.map(np.testing.assert_array_equal, *trees)
    assert model.prediction_type == folder.prediction_type
    context, pooled = model.encode(PROMPTS)
    assert error(context, reference(name)["context"]) < 1e-4
    assert (pooled is None) == (name == "sd2_small")


def test_a_ckpt_file_is_read_with_the_training_s_other_state(tmp_path):
    path = original_file(GOLDEN / "sd2_small", tmp_path / "model.safetensors")
    tensors = load_file(path)
    write_torch(tmp_path / "model.ckpt", {"state_dict": tensors, "global_step": 3, "epoch": 1})
    options = FileOptions(config=GOLDEN / "sd2_small")
    read, expected = (read_single_file(p, options) for p in (tmp_path / "model.ckpt", path))
    for part in ("unet_tensors", "vae_tensors"):
        found, wanted = getattr(read, part), getattr(expected, part)
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            np.testing.assert_array_equal(found[key], value)


def test_what_a_file_without_a_folder_tells(tmp_path):
    path = original_file(GOLDEN / "xl_small", tmp_path / "model.safetensors")
    tensors = load_file(path) | {"v_pred": np.zeros(0), "ztsnr": np.zeros(0)}
    for key, value in tensors.items():  # text encoders of published vocabulary and heads
        if key.startswith("conditioner."):
            shape = {16: 64, 24: 128, 32: 256, 48: 512, 526: 49408}
            tensors[key] = np.zeros([shape.get(n, n) for n in value.shape], np.float16)
    save_file(tensors, path)
    with pytest.raises(ValueError, match="narrower than 64 channels: give num_attention_heads"):
        read_single_file(path, FileOptions(norm_num_groups=4))
    parts = read_single_file(path, FileOptions(norm_num_groups=4, num_attention_heads=(2, 4)))
    assert parts.unet == SDUNetConfig(
        block_out_channels=(8, 16),
        layers_per_block=(1, 1),
        down_depths=((), (2,)),
        mid_depths=(2,),
        up_depths=((2, 2), ()),
        num_attention_heads=(2, 4),
        cross_attention_dim=40,
        norm_num_groups=4,
        time_embedding_dim=32,
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=48,
    )
    assert parts.vae.block_out_channels == (4, 8)
    assert (parts.vae.layers_per_block, parts.vae.scaling_factor) == (1, 0.13025)
    first, second = parts.texts
    assert (first.config.hidden_size, first.config.num_attention_heads) == (64, 1)
    assert (second.config.hidden_size, second.config.num_attention_heads) == (128, 2)
    assert (first.config.hidden_act, second.config.hidden_act) == ("quick_gelu", "gelu")
    assert (first.config.num_hidden_layers, second.config.intermediate_size) == (3, 512)
    assert second.config.projection_dim == 12
    assert (first.pad_id, second.pad_id) == (49407, 0)
    assert parts.zeros_for_no_prompt
    assert parts.scheduler.prediction_type == "v_prediction"
    assert parts.scheduler.schedule.is_zero_terminal
    assert parts.scheduler.timesteps(4).tolist() == [999, 749, 499, 249]
    plain = read_single_file(
        path,
        FileOptions(norm_num_groups=4, num_attention_heads=(2, 4), sample_size=96),
        prediction_type="epsilon",
        zero_terminal_snr=False,
    )
    assert plain.scheduler.prediction_type == "epsilon"
    assert not plain.scheduler.schedule.is_zero_terminal
    assert (parts.sample_size, plain.sample_size) == (128, 96)


def test_clip_s_tokenizer_needs_no_folder():
    # Known ids of the published vocabulary.
    ids = published_tokenizer().encode("A photograph of an astronaut").ids
    assert ids == [49406, 320, 8853, 539, 550, 18376, 49407]


def test_attention_of_the_autoencoder_in_every_spelling(tmp_path):
    tensors = load_file(original_file(GOLDEN / "sd2_small", tmp_path / "model.safetensors"))
    held = original_names.under(tensors, "first_stage_model.")
    _, expected = original_names.vae(held)
    for names in (
        {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0", "norm": "group_norm"},
        {"q": "query", "k": "key", "v": "value", "proj_out": "proj_attn", "norm": "group_norm"},
    ):
        spelt = {}
        for key, value in held.items():
            for old, new in names.items():
                key = key.replace(f".attn_1.{old}.", f".attn_1.{new}.")
            spelt[key] = value
        _, found = original_names.vae(spelt)
        found = {parameter_name(key): value for key, value in found.items()}
        assert found.keys() == {parameter_name(key) for key in expected}
