"""The original names of a ControlNet's tensors, in one file, turned into those of diffusers."""

import dataclasses
import re
from typing import Any

import numpy as np

from dg2_jax.interop.stable_diffusion import original_names
from dg2_jax.interop.stable_diffusion.original_names import Tensors
from dg2_jax.nn.sd_config import SDUNetConfig

_EMBEDDING = "controlnet_cond_embedding"
_MOST_SKIPS = 64


def names_of_today(
    tensors: Tensors, unet: SDUNetConfig
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Fields of a ControlNet's configuration that its tensors tell, and the tensors by new names.

    Args:
        tensors: by the original names.
        unet: of the model that it is for, which tells what they do not.

    Raises:
        ValueError: they are not those of a ControlNet.
    """
    widths, down = original_names.levels_of(tensors, "input_blocks", first=1)
    hints = sorted(int(m[1]) for k in tensors if (m := re.match(r"input_hint_block\.(\d+)\.w", k)))
    try:
        context = next(v for k, v in tensors.items() if k.endswith("attn2.to_k.weight"))
        kernels = [tensors[f"input_hint_block.{i}.weight"] for i in hints]
        fields: dict[str, Any] = {
            "in_channels": tensors["input_blocks.0.0.weight"].shape[1],
            "block_out_channels": tuple(widths),
            "layers_per_block": tuple(map(len, down)),
            "down_depths": original_names.by_level(down),
            "up_depths": ((),) * len(widths),
            **original_names.middle(tensors),
            "cross_attention_dim": context.shape[1],
            "time_cond_proj_dim": 0,
            "conditioning_channels": kernels[0].shape[1],
            # Of each width but the last there are two convolutions, of which the second halves.
            "embedding_channels": tuple(k.shape[0] for k in kernels[:-1:2]),
        }
    except (KeyError, StopIteration, IndexError) as error:
        raise ValueError("it lacks parts of a ControlNet") from error
    if len(widths) != len(unet.block_out_channels):
        raise ValueError(f"it has {len(widths)} levels, the model {len(unet.block_out_channels)}")
    known = {
        k: v for k, v in fields.items() if k not in ("conditioning_channels", "embedding_channels")
    }
    modules = original_names.unet_modules(dataclasses.replace(unet, **known))
    modules["input_hint_block.0"] = f"{_EMBEDDING}.conv_in"
    modules[f"input_hint_block.{hints[-1]}"] = f"{_EMBEDDING}.conv_out"
    modules |= {
        f"input_hint_block.{h}": f"{_EMBEDDING}.blocks.{i}" for i, h in enumerate(hints[1:-1])
    }
    modules |= {f"zero_convs.{i}.0": f"controlnet_down_blocks.{i}" for i in range(_MOST_SKIPS)}
    modules["middle_block_out.0"] = "controlnet_mid_block"
    return fields, {
        original_names.renamed_by(key, modules): value for key, value in tensors.items()
    }
