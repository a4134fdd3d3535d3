"""Names of an autoencoder's tensors in Stable Diffusion's own files -> those of diffusers.

A checkpoint of the original code holds the autoencoder under `first_stage_model.`, beside the UNet
and the text encoder; a file of the autoencoder alone may hold its training loss.
"""

import re
from collections.abc import Mapping

import numpy as np

from dg2_jax.interop.weights import unwrapped

_PREFIXES = ("first_stage_model.", "vae.")
_LOSS = ("loss.", "logvar")
_ORIGINAL = re.compile(r"^(encoder|decoder)\.(down|up|mid)\.")
_RENAMED = [
    (r"\.down\.(\d+)\.block\.(\d+)\.", r".down_blocks.\1.resnets.\2."),
    (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.up\.(\d+)\.block\.(\d+)\.", r".up_blocks.\1.resnets.\2."),
    (r"\.up\.(\d+)\.upsample\.", r".up_blocks.\1.upsamplers.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),  # projections by diffusers' names
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
]


def of_this_age(tensors: Mapping[str, np.ndarray], levels: int) -> dict[str, np.ndarray]:
    """The autoencoder's tensors under the names of diffusers.

    Args:
        tensors: of the autoencoder, or of a checkpoint that holds it under a prefix.
        levels: resolutions of the network; the original counts those of the decoder from the image.
    """
    named = {unwrapped(name): value for name, value in tensors.items()}
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) for name in named):
            named = {n.removeprefix(prefix): v for n, v in named.items() if n.startswith(prefix)}
    if not any(_ORIGINAL.match(name) for name in named):
        return named
    return {
        _renamed(name, levels): value for name, value in named.items() if not name.startswith(_LOSS)
    }


def _renamed(name: str, levels: int) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"\.up_blocks\.(\d+)\.", lambda m: f".up_blocks.{levels - 1 - int(m[1])}.", name)
