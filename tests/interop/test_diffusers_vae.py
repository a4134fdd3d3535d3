"""The golden numbers are those of diffusers 0.42.1 (torch, float32) on random weights, NCHW."""

import json
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
from dg2_jax.nn.autoencoder import AutoencoderConfig, AutoencoderKL

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
        ({"latents_mean": [0.0]}, "latents_mean must be None"),
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
