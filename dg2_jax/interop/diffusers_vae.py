"""Autoencoders in Hugging Face layout: config.json beside diffusion_pytorch_model.safetensors.

vae = from_pretrained("stabilityai/sd-vae-ft-ema")
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dg2_jax.checks import naming
from dg2_jax.interop import vae_names
from dg2_jax.interop.hf_folder import find_folder, read_config, read_weights
from dg2_jax.interop.weights import load_params
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.autoencoder_config import AutoencoderConfig

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
_REQUIRED = {"_class_name": "AutoencoderKL", "act_fn": "silu"}
# Of each channel of the latents, which are taken to mean 0 and deviation 1 before the scaling.
_NORMALISED = ("latents_mean", "latents_std")
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
    values = _values(folder)
    config = parse_config(values)
    vae = abstract(lambda rngs: AutoencoderKL(config, rngs=rngs))
    with naming(folder):
        tensors = vae_names.of_this_age(read_weights(folder, _STEM), len(config.block_out_channels))
        load_params(vae, as_configured(values, tensors), parameter_name)
    return vae


def as_configured(
    values: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """Tensors by diffusers' names for the network that `parse_config` makes of a config.json.

    Args:
        values: the content, which `parse_config` takes.
        tensors: of its weights.
    """
    if values.get("latents_mean") is None:
        return tensors
    return _normalised(tensors, values["latents_mean"], values["latents_std"])


def _normalised(
    tensors: Mapping[str, np.ndarray], means: Sequence[float], deviations: Sequence[float]
) -> dict[str, np.ndarray]:
    """Tensors of the network whose latents are (z - mean) / std, channel by channel.

    Both are affine in a channel, as the 1x1 convolutions behind the encoder and in front of the
    decoder are: with z' = (z - m) / s, their products with the given ones are

        quant_conv       μ' = (μ - m) / s,  ln σ'² = ln σ² - 2 ln s
        post_quant_conv  W (s z' + m) + b
    """
    m, s = np.asarray(means, np.float32), np.asarray(deviations, np.float32)
    one = np.ones_like(s)

    def conv(name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
        if f"{name}.weight" not in tensors:
            return np.eye(size, dtype=np.float32), np.zeros(size, np.float32)
        weight = np.asarray(tensors[f"{name}.weight"], np.float32).reshape(size, size)
        return weight, np.asarray(tensors[f"{name}.bias"], np.float32)

    weight, bias = conv("quant_conv", 2 * len(m))
    scale = np.concatenate([1 / s, one])
    offset = np.concatenate([-m / s, -2 * np.log(s)])
    changed = {
        "quant_conv.weight": (scale[:, None] * weight)[..., None, None],
        "quant_conv.bias": scale * bias + offset,
    }
    weight, bias = conv("post_quant_conv", len(m))
    changed["post_quant_conv.weight"] = (weight * s)[..., None, None]
    changed["post_quant_conv.bias"] = weight @ m + bias
    return {**tensors, **changed}


def published_config(path: str | os.PathLike) -> AutoencoderConfig:
    """The configuration of what `from_pretrained` would read; raises as it does.

    That of `STABLE_DIFFUSION` is known and needs no network.
    """
    if path == STABLE_DIFFUSION:
        return AutoencoderConfig()
    return parse_config(_values(find_folder(path, _STEM)))


def _values(folder: Path) -> dict[str, Any]:
    """What config.json holds, after `parse_config` has taken it."""
    values = read_config(folder)
    with naming(folder / "config.json"):
        parse_config(values)
    return values


def parse_config(values: Mapping[str, Any]) -> AutoencoderConfig:
    """An `AutoencoderConfig` from the content of a config.json.

    Keys that are absent have the value they had when files without them were written. Latents that
    are to be normalised by `latents_mean` and `latents_std` are so by the 1x1 convolutions.

    Raises:
        ValueError: for a key or value that stands for a network this one is not.
    """
    known = [*_FIELDS, *_IGNORED, *_REQUIRED, *_BLOCKS, *_NORMALISED]
    unknown = sorted(key for key in values if key not in known and not key.startswith("_"))
    if unknown:
        raise ValueError(
            f"unknown autoencoder configuration keys {unknown}; known: {sorted(known)}"
        )
    for key, required in _REQUIRED.items():
        if values.get(key, required) != required:
            raise ValueError(f"{key} must be {required!r}, got {values[key]!r}")
    for key, block in _BLOCKS.items():
        if any(name != block for name in values.get(key, ())):
            raise ValueError(f"{key} must all be {block!r}, got {values[key]!r}")
    fields = {key: values[key] for key in _FIELDS if values.get(key) is not None}
    # Their constructor's default is one narrow block; every published file spells it out.
    if "block_out_channels" not in fields:
        raise ValueError("block_out_channels is missing")
    for key in _BLOCKS:
        if key in values and len(values[key]) != len(fields["block_out_channels"]):
            raise ValueError(f"{key} must have one entry for each of block_out_channels")
    if _check_normalisation(values, fields.get("latent_channels", 4)):
        fields |= {"use_quant_conv": True, "use_post_quant_conv": True}
    return AutoencoderConfig.from_dict({"layers_per_block": 1, **fields})


def _check_normalisation(values: Mapping[str, Any], channels: int) -> bool:
    """Whether latents are normalised by channel; raises ValueError where it is not said well."""
    given = [name for name in _NORMALISED if values.get(name) is not None]
    if not given:
        return False
    for name in _NORMALISED:
        value = values.get(name)
        numbers = [v for v in value if type(v) in (int, float)] if isinstance(value, list) else []
        if numbers != value or len(numbers) != channels or not np.isfinite(numbers).all():
            raise ValueError(f"{name} must be {channels} finite numbers, got {value!r}")
    if min(values["latents_std"]) <= 0:
        raise ValueError(f"latents_std must be positive, got {values['latents_std']}")
    if values.get("shift_factor"):
        raise ValueError("shift_factor must be 0 where latents_mean is given")
    return True


def parameter_name(key: str) -> str:
    """The name in `AutoencoderKL` of a tensor of the checkpoint, in old or new spelling."""
    for pattern, replacement in _NAMES:
        key = re.sub(pattern, replacement, key)
    return key
