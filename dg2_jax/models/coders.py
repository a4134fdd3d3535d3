"""What a model encodes pictures and captions with; its denoiser is not read.

How a text encoder is described: as config.json of a model folder does, and where it is part of a
Stable Diffusion model also by that model, {"model": "models/sd15", "layers": [12], ...}.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dg2_jax.interop import hf_text
from dg2_jax.interop.stable_diffusion.folder import read_texts, write_texts
from dg2_jax.interop.stable_diffusion.model import build_texts, build_vae
from dg2_jax.interop.stable_diffusion.parts import TextPart
from dg2_jax.models import folder as folders
from dg2_jax.models import sources
from dg2_jax.models.model import Params
from dg2_jax.models.weights_file import flatten
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.text import loading
from dg2_jax.text.interface import PromptEncoder
from dg2_jax.text.stable_diffusion import StableDiffusionText

_MODEL = "model"


def autoencoder(source: str) -> AutoencoderKL:
    """The autoencoder of a model; source and errors as of `sources.load`."""
    if sources.is_own(source):
        model = folders.load(source)
        return model.autoencoder.bind(model.autoencoder_params)
    return build_vae(sources.read_parts(source, sources.options_of(source, None)))


def described_text(source: str) -> dict[str, Any]:
    """The text encoder of a model, for `text_encoder`; source and errors as of `sources.load`."""
    described = dict(sources.described(source)["text_encoder"])
    if "name" in described:
        return described
    described.pop("encoders", None)
    path = Path(source).expanduser()
    return {**described, _MODEL: str(path.resolve()) if path.exists() else source}


def text_encoder(described: Mapping[str, Any]) -> PromptEncoder:
    """A text encoder by its description; errors as of `loading.from_config` and `sources.load`."""
    if _MODEL not in described:
        return loading.from_config(described)
    texts = build_texts(
        _text_parts(described[_MODEL]),
        bool(described["penultimate"]),
        bool(described["zeros_for_no_prompt"]),
    )
    return StableDiffusionText(described[_MODEL], texts)


def keep_texts(
    folder: Path, described: Mapping[str, Any], trained: StableDiffusionText | None = None
) -> dict[str, Any]:
    """Writes the text encoders of a Stable Diffusion model into a model folder.

    Args:
        folder: of the model.
        described: the text encoders.
        trained: the same with other weights, which are written instead; None: as they are.

    Returns:
        How the folder's config.json describes them; encoders by name need no files.
    """
    if _MODEL not in described:
        return dict(described)
    parts = _text_parts(described[_MODEL])
    if trained is not None:
        pairs = zip(parts, trained.encoders.params, strict=True)
        parts = tuple(_changed(part, params) for part, params in pairs)
    names = write_texts(folder, parts)
    return {**{k: v for k, v in described.items() if k != _MODEL}, "encoders": names}


def _changed(part: TextPart, params: Params) -> TextPart:
    """A text encoder with the linear layers of other parameters."""
    kernels = flatten(params)
    tensors = dict(part.tensors)
    for key, old in part.tensors.items():
        name = (hf_text.clip_text_parameter(key) or "").removesuffix(".weight")
        if f"{name}.kernel" in kernels:
            tensors[key] = np.asarray(kernels[f"{name}.kernel"]).T.astype(old.dtype)
    return dataclasses.replace(part, tensors=tensors)


def _text_parts(source: str) -> tuple[TextPart, ...]:
    if not sources.is_own(source):
        return sources.read_parts(source, sources.options_of(source, None)).texts
    folder = folders.folder_of(source)
    return read_texts(folder, folders.read_config(folder)["text_encoder"]["encoders"])
