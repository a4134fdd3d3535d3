"""Autoencoders in Hugging Face layout: config.json beside diffusion_pytorch_model.safetensors.

vae = from_pretrained("stabilityai/sd-vae-ft-ema")
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dg2_jax.interop.hf_folder import find_folder, read_config, read_weights
from dg2_jax.interop.weights import load_params
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.autoencoder import AutoencoderConfig, AutoencoderKL

STABLE_DIFFUSION = "stabilityai/sd-vae-ft-ema"  # which has the defaults of `AutoencoderConfig`
_STEM = "diffusion_pytorch_model"  # of the weights' file name

# Keys of config.json that are fields of AutoencoderConfig under the same name.
_FIELDS = (
    "in_channels",
    "out_channels",
    "latent_channels",
    "block_out_channels",
    "layers_per_block",
    "norm_num_groups",
    "mid_block_add_attention",
    "use_quant_conv",
    "use_post_quant_conv",
    "scaling_factor",
    "shift_factor",
)
# Keys that say how the file was made or run, not what the network is.
_IGNORED = ("sample_size", "force_upcast")
# Keys with one value this network has; all but these lead to another network.
_REQUIRED = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "latents_mean": None,
    "latents_std": None,
}
_BLOCKS = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}

_NAMES = [  # (pattern in the checkpoint, name in `AutoencoderKL`)
    (r"\.downsamplers\.0\.", ".downsampler."),
    (r"\.upsamplers\.0\.", ".upsampler."),
    (r"\.attentions\.0\.", ".attention."),
    (r"\.to_out\.0\.", ".to_out."),
    # Spelling until 2023, which stabilityai/sd-vae-ft-ema and most published files still have.
    (r"\.attention\.query\.", ".attention.to_q."),
    (r"\.attention\.key\.", ".attention.to_k."),
    (r"\.attention\.value\.", ".attention.to_v."),
    (r"\.attention\.proj_attn\.", ".attention.to_out."),
]


def from_pretrained(path: str | os.PathLike, subfolder: str = "") -> AutoencoderKL:
    """Reads a published autoencoder.

    Args:
        path: a folder, or the id of a model of the Hugging Face hub ("owner/name"), which is
            downloaded once.
        subfolder: of that folder or model; "vae" where it is a whole Stable Diffusion pipeline.

    Raises:
        FileNotFoundError: if a file is missing or the hub cannot be reached; says what to do.
        ValueError: if a file is damaged, the configuration is of another network, or tensors and
            parameters do not correspond; names the keys.
    """
    folder = find_folder(path, _STEM, subfolder=subfolder)
    config = _config(folder)
    vae = abstract(lambda rngs: AutoencoderKL(config, rngs=rngs))
    try:
        load_params(vae, read_weights(folder, _STEM), parameter_name)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return vae


def published_config(path: str | os.PathLike) -> AutoencoderConfig:
    """The configuration of what `from_pretrained` would read; raises as it does.

    That of `STABLE_DIFFUSION` is known and needs no network.
    """
    if path == STABLE_DIFFUSION:
        return AutoencoderConfig()
    return _config(find_folder(path, _STEM))


def _config(folder: Path) -> AutoencoderConfig:
    values = read_config(folder)
    try:
        return parse_config(values)
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from error


def parse_config(values: Mapping[str, Any]) -> AutoencoderConfig:
    """An `AutoencoderConfig` from the content of a config.json.

    Keys that are absent have the value they had when files without them were written.

    Raises:
        ValueError: for a key or value that stands for a network this one is not.
    """
    known = [*_FIELDS, *_IGNORED, *_REQUIRED, *_BLOCKS]
    unknown = sorted(key for key in values if key not in known and not key.startswith("_"))
    if unknown:
        raise ValueError(
            f"unknown autoencoder configuration keys {unknown}; known: {sorted(known)}"
        )
    for key, required in _REQUIRED.items():
        if values.get(key, required) != required:
            raise ValueError(f"{key} must be {required!r}, got {values[key]!r}")
    for key, block in _BLOCKS.items():
        if any(found != block for found in values.get(key, ())):
            raise ValueError(f"{key} must all be {block!r}, got {values[key]!r}")
    fields = {key: values[key] for key in _FIELDS if values.get(key) is not None}
    # Their constructor's default is one narrow block; every published file spells it out.
    if "block_out_channels" not in fields:
        raise ValueError("block_out_channels is missing")
    for key in _BLOCKS:
        if key in values and len(values[key]) != len(fields["block_out_channels"]):
            raise ValueError(f"{key} must have one entry for each of block_out_channels")
    return AutoencoderConfig.from_dict({"layers_per_block": 1, **fields})


def parameter_name(key: str) -> str:
    """The name in `AutoencoderKL` of a tensor of the checkpoint, in old or new spelling."""
    for pattern, replacement in _NAMES:
        key = re.sub(pattern, replacement, key)
    return key
