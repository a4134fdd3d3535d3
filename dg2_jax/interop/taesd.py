"""TAESD in Hugging Face layout: config.json of an AutoencoderTiny beside its weights.

vae = from_pretrained("madebyollin/taesd")
"""

import os
import re
from collections.abc import Mapping
from typing import Any

from dg2_jax.checks import naming
from dg2_jax.interop.hf_folder import find_folder, read_config, read_weights
from dg2_jax.interop.weights import load_params
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig

_STEM = "diffusion_pytorch_model"
_FIELDS = (
    *("in_channels", "out_channels", "latent_channels"),
    *("encoder_block_out_channels", "decoder_block_out_channels"),
    *("num_encoder_blocks", "num_decoder_blocks", "scaling_factor", "shift_factor"),
)
# Keys that say how the latents may be stored as pictures, or repeat others.
_IGNORED = ("latent_magnitude", "latent_shift", "force_upcast", "block_out_channels")
_REQUIRED = {
    "_class_name": "AutoencoderTiny",
    "act_fn": "relu",
    "upsample_fn": "nearest",
    "upsampling_scaling_factor": 2,
}


def from_pretrained(path: str | os.PathLike, subfolder: str = "") -> TinyAutoencoder:
    """Reads a published one; arguments and errors as of `diffusers_vae.from_pretrained`."""
    folder = find_folder(path, _STEM, subfolder=subfolder)
    with naming(folder):
        config = parse_config(read_config(folder))
        vae = abstract(lambda rngs: TinyAutoencoder(config, rngs=rngs))
        skipped = _modules_to_layers(config)
        load_params(vae, read_weights(folder, _STEM), lambda key: _parameter(key, skipped))
    return vae


def parse_config(values: Mapping[str, Any]) -> TinyAutoencoderConfig:
    """The configuration from the content of a config.json.

    Raises:
        ValueError: for a key or value that stands for a network this one is not.
    """
    known = (*_FIELDS, *_IGNORED, *_REQUIRED)
    unknown = sorted(key for key in values if key not in known and not key.startswith("_"))
    if unknown:
        raise ValueError(f"unknown autoencoder configuration keys {unknown}; known: {known}")
    for key, required in _REQUIRED.items():
        if values.get(key, required) != required:
            raise ValueError(f"{key} must be {required!r}, got {values[key]!r}")
    given = {key: values[key] for key in _FIELDS if values.get(key) is not None}
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return TinyAutoencoderConfig(**fields)


def _modules_to_layers(config: TinyAutoencoderConfig) -> dict[int, int]:
    """The decoder's modules, of which activations and doublings hold nothing, to its layers."""
    layers, module, layer = {0: 0}, 2, 1
    for i, count in enumerate(config.num_decoder_blocks):
        held = [*range(module, module + count)]
        module += count
        if i + 1 < len(config.num_decoder_blocks):
            module += 1  # the doubling
        held.append(module)
        module += 1
        layers |= {old: layer + j for j, old in enumerate(held)}
        layer += len(held)
    return layers


def _parameter(key: str, decoder_layers: Mapping[int, int]) -> str:
    """The name in `TinyAutoencoder`: convolutions in a block lie at 0, 2 and 4 in the file."""
    key = re.sub(r"\.conv\.([024])\.", lambda m: f".conv.{int(m[1]) // 2}.", key)
    if match := re.match(r"decoder\.layers\.(\d+)\.", key):
        layer = decoder_layers.get(int(match[1]), match[1])
        key = f"decoder.layers.{layer}.{key[match.end() :]}"
    return key
