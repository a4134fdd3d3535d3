"""The golden numbers are those of diffusers 0.42.1 (torch, float32) on random weights, NCHW."""

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from dg2_jax.interop import diffusers_vae
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from tests.interop.torch_files import write_torch

GOLDEN = Path(__file__).parents[1] / "golden" / "hf_vae_tiny"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def reference():
    with np.load(GOLDEN / "reference.npz") as file:
        return {k: jnp.asarray(v.transpose(0, 2, 3, 1)) for k, v in file.items()}


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(GOLDEN, tmp_path / "vae"))


def relative_error(a, b):
    return jnp.abs(a - b).max() / jnp.abs(b).max()


def test_encode_and_decode_agree_with_diffusers(reference):
    vae = diffusers_vae.from_pretrained(GOLDEN)
    posterior = vae.encode(reference["x"])
    assert relative_error(posterior.mean, reference["mean"]) < 1e-4
    assert relative_error(posterior.logvar, reference["logvar"]) < 1e-4
    assert relative_error(vae.decode(reference["z"]), reference["decoded"]) < 1e-4


def test_the_old_spelling_of_attention_gives_the_same_model(folder, reference):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(key):
        for new, name in old.items():
            key = key.replace(f".{new}.", f".{name}.")
        return key

    tensors = load_file(GOLDEN / WEIGHTS)
    renamed = {rename(k): v for k, v in tensors.items()}
    assert renamed.keys() != tensors.keys()
    # The oldest files hold the projections as 1x1 convolutions.
    key = "decoder.mid_block.attentions.0.query.weight"
    renamed[key] = renamed[key][..., None, None]
    save_file(renamed, folder / WEIGHTS)
    vae = diffusers_vae.from_pretrained(folder)
    assert relative_error(vae.decode(reference["z"]), reference["decoded"]) < 1e-4


def test_every_parameter_of_stable_diffusion_has_a_name_in_the_checkpoint():
    config = diffusers_vae.parse_config(
        {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}
    )
    assert config == AutoencoderConfig()
    vae = abstract(lambda rngs: AutoencoderKL(config, rngs=rngs))
    sizes = [leaf.size for leaf in jax.tree.leaves(nnx.state(vae))]
    assert (len(sizes), sum(sizes)) == (248, 83_653_863)  # of stabilityai/sd-vae-ft-ema


def test_missing_and_unknown_tensors_are_named(folder):
    tensors = load_file(GOLDEN / WEIGHTS)
    tensors["surplus.weight"] = tensors.pop("quant_conv.weight")
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"surplus\.weight.*quant_conv\.weight"):
        diffusers_vae.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"act_fn": "relu"}, "act_fn must be 'silu'"),
        ({"_class_name": "VQModel"}, "_class_name must be 'AutoencoderKL'"),
        ({"latents_mean": [0.0]}, "latents_mean must be 4 finite numbers"),
        ({"latents_mean": [0.0] * 4}, "latents_std must be 4 finite numbers, got None"),
        ({"latents_mean": [0] * 4, "latents_std": [1, 0, 1, 1]}, "latents_std must be positive"),
        ({"latents_mean": [0] * 4, "latents_std": [1] * 4, "shift_factor": 0.1}, "must be 0 where"),
        ({"down_block_types": ["A", "B"]}, "down_block_types must all be"),
        ({"up_block_types": ["UpDecoderBlock2D"]}, "up_block_types must have one entry"),
        ({"surprise": 1}, r"unknown .*\['surprise'\]"),
        ({"block_out_channels": None}, "block_out_channels is missing"),
    ],
)
def test_configurations_of_other_networks_are_refused(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ValueError, match=message):
        diffusers_vae.from_pretrained(folder)


def write_bin(folder, tensors):
    """As PyTorch's zip archives."""
    return write_torch(folder / "diffusion_pytorch_model.bin", tensors)


def original_names(tensors, levels=2):
    """As Stable Diffusion's own code names them."""
    pairs = [
        (r"\.down_blocks\.(\d+)\.resnets\.", r".down.\1.block."),
        (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
        (r"\.up_blocks\.(\d+)\.", lambda m: f".up.{levels - 1 - int(m[1])}."),
        (r"(\.up\.\d+)\.resnets\.", r"\1.block."),
        (r"(\.up\.\d+)\.upsamplers\.0\.", r"\1.upsample."),
        (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
        (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
        (r"\.mid_block\.attentions\.0\.group_norm", ".mid.attn_1.norm"),
        (r"\.mid_block\.attentions\.0\.to_([qkv])", r".mid.attn_1.\1"),
        (r"\.mid_block\.attentions\.0\.to_out\.0", ".mid.attn_1.proj_out"),
        (r"\.conv_shortcut\.", ".nin_shortcut."),
        (r"\.conv_norm_out\.", ".norm_out."),
    ]
    renamed = {}
    for name, value in tensors.items():
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name):
            value = value[..., None, None]
        renamed[name] = value
    return renamed


@pytest.mark.parametrize(
    "form",
    ["fp16", "fp16 shards", "bin", "bin shards", "state_dict", "prefix", "original", "whole"],
)
def test_every_form_of_weights_gives_the_same_network(folder, reference, form):
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    half = ({n: tensors[n] for n in part} for part in (names[::2], names[1::2]))
    stem = "diffusion_pytorch_model"
    if form == "fp16":
        save_file(tensors, folder / f"{stem}.fp16.safetensors")
        save_file({"other": np.zeros(1)}, folder / f"{stem}.non_ema.safetensors")
    elif form.endswith("shards"):
        middle = ".fp16" if form.startswith("fp16") else ""
        kind = "safetensors" if middle else "bin"
        index = {}
        for number, part in enumerate(half, start=1):
            shard = f"{stem}{middle}-0000{number}-of-00002.{kind}"
            write = save_file if middle else lambda t, path: write_torch(path, t)
            write(part, folder / shard)
            index |= dict.fromkeys(part, shard)
        name = f"{stem}.{kind}.index{middle}.json"
        (folder / name).write_text(json.dumps({"weight_map": index}))
    elif form == "bin":
        write_bin(folder, {f"module.{name}": value for name, value in tensors.items()})
    elif form == "state_dict":
        write_bin(folder, {"state_dict": tensors, "epoch": 3})
    elif form == "prefix":
        save_file({f"first_stage_model.{n}": v for n, v in tensors.items()}, folder / WEIGHTS)
    else:
        old = original_names(tensors)
        assert "encoder.mid.attn_1.q.weight" in old
        assert "decoder.up.1.upsample.conv.weight" in old
        if form == "whole":
            old = {f"first_stage_model.{name}": value for name, value in old.items()}
            old["model.diffusion_model.out.0.weight"] = np.zeros(3, np.float32)
        else:
            old["loss.logvar"] = np.zeros(1, np.float32)
        save_file({n: np.ascontiguousarray(v) for n, v in old.items()}, folder / WEIGHTS)
    vae = diffusers_vae.from_pretrained(folder)
    assert relative_error(vae.decode(reference["z"]), reference["decoded"]) < 1e-4
    assert relative_error(vae.encode(reference["x"]).mean, reference["mean"]) < 1e-4


def test_of_several_variants_one_must_be_chosen(folder):
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    for variant in ("bf16", "non_ema"):
        save_file(tensors, folder / f"diffusion_pytorch_model.{variant}.safetensors")
    with pytest.raises(ValueError, match=r"one variant of the weights, not .*bf16.*non_ema"):
        diffusers_vae.from_pretrained(folder)


@pytest.mark.parametrize("convolutions", [True, False])
def test_latents_are_normalised_by_channel(folder, reference, convolutions):
    plain = json.loads((folder / "config.json").read_text())
    if not convolutions:
        plain |= {"use_quant_conv": False, "use_post_quant_conv": False}
        tensors = load_file(folder / WEIGHTS)
        save_file({n: v for n, v in tensors.items() if "quant_conv" not in n}, folder / WEIGHTS)
    (folder / "config.json").write_text(json.dumps(plain))
    before = diffusers_vae.from_pretrained(folder)
    mean, std = [0.3, -0.2, 0.0, 2.0], [0.5, 1.0, 2.0, 1.5]
    changed = {**plain, "latents_mean": mean, "latents_std": std, "scaling_factor": 0.5}
    (folder / "config.json").write_text(json.dumps(changed))
    after = diffusers_vae.from_pretrained(folder)
    m, s = (jnp.asarray(v)[None, None, None] for v in (mean, std))
    given, normalised = before.encode(reference["x"]), after.encode(reference["x"])
    np.testing.assert_allclose(normalised.mean, (given.mean - m) / s, rtol=1e-4, atol=1e-5)
    expected = given.logvar - 2 * jnp.log(s)
    np.testing.assert_allclose(normalised.logvar, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.scale(m), 0.5 * m, rtol=1e-6)
    z = (reference["z"] - m) / s
    assert relative_error(after.decode(z), before.decode(reference["z"])) < 1e-5


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "a Git LFS pointer",
        ),
        (b"<!DOCTYPE html>\n<html><head>", "a web page"),
        (b"\n  <html>", "a web page"),
        (b"PK\x03\x04" + bytes(20), "a zip archive"),
        (b"", "empty"),
    ],
)
def test_what_is_no_weights_file_is_called_what_it_is(folder, content, kind):
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match=f"is no safetensors file: it is {kind}"):
        diffusers_vae.from_pretrained(folder)
    shutil.copy(GOLDEN / WEIGHTS, folder)
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"config.json is no JSON file: it is {kind}"):
        diffusers_vae.from_pretrained(folder)
    (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.bin")
    (folder / "diffusion_pytorch_model.bin").write_bytes(content)
    shutil.copy(GOLDEN / "config.json", folder)
    with pytest.raises(ValueError, match=r"model\.bin: " + ("" if "zip" in kind else f".*{kind}")):
        diffusers_vae.from_pretrained(folder)


def test_files_that_are_missing_or_damaged_are_named(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json"):
        diffusers_vae.from_pretrained(folder)
    shutil.copy(GOLDEN / "config.json", folder)
    (folder / WEIGHTS).write_bytes((GOLDEN / WEIGHTS).read_bytes()[:-4])
    with pytest.raises(ValueError, match="safetensors"):
        diffusers_vae.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match="no weights in"):
        diffusers_vae.from_pretrained(folder)
    with pytest.raises(FileNotFoundError, match="neither a folder nor"):
        diffusers_vae.from_pretrained(folder / "absent")


def test_a_hub_id_without_network_says_which_files_to_place():
    with pytest.raises(FileNotFoundError, match=r"config\.json and diffusion_pytorch_model"):
        diffusers_vae.from_pretrained("example-owner/example-model")
