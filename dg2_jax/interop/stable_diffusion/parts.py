"""What a Stable Diffusion model consists of, whatever files it came from."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from dg2_jax.interop.stable_diffusion.scheduler import Scheduler
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.nn.clip_config import ClipTextConfig
from dg2_jax.nn.sd_config import SDUNetConfig

Tensors = Mapping[str, np.ndarray]

_UNET_NAMES = [  # (pattern in the checkpoint, name in `nn.sd_unet` and `nn.sd_controlnet`)
    (r"\.downsamplers\.0\.conv\.", ".downsampler."),
    (r"\.upsamplers\.0\.conv\.", ".upsampler."),
    (r"\.to_out\.0\.", ".to_out."),
    (r"\.ff\.net\.0\.proj\.", ".ff.inner."),
    (r"\.ff\.net\.2\.", ".ff.outer."),
]


@dataclasses.dataclass(frozen=True, eq=False)
class TextPart:
    """A text encoder before its network is built.

    Attributes:
        config: of the network.
        tensors: by the names of Hugging Face's CLIP text model.
        tokenizer: see `text.TextTower`.
        pad_id: see there.
        length: see there.
    """

    config: ClipTextConfig
    tensors: Tensors
    tokenizer: Any
    pad_id: int
    length: int


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """A model before its networks are built.

    Attributes:
        unet: configuration of the UNet.
        unet_tensors: by diffusers' names.
        vae: configuration of the autoencoder.
        vae_tensors: by diffusers' names.
        texts: one text encoder, or two.
        scheduler: how the model is sampled.
        zeros_for_no_prompt: see `text.TextEncoders`.
        sample_size: side of the latents that it was trained on.
    """

    unet: SDUNetConfig
    unet_tensors: Tensors
    vae: AutoencoderConfig
    vae_tensors: Tensors
    texts: tuple[TextPart, ...]
    scheduler: Scheduler
    zeros_for_no_prompt: bool
    sample_size: int


def unet_parameter(key: str) -> str:
    """The name in `SDUNet` or `ControlNet` of a tensor of a diffusers checkpoint."""
    for pattern, replacement in _UNET_NAMES:
        key = re.sub(pattern, replacement, key)
    return key
