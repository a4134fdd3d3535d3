"""Converts a published DiffusionGen2 checkpoint to a model folder (see `dg2_jax.models.folder`)."""

import dataclasses
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from dg2_jax.files import replacing, sha256
from dg2_jax.interop import recognition
from dg2_jax.interop.dg2_settings import IMPORTED
from dg2_jax.interop.diffusiongen2 import open_checkpoint
from dg2_jax.interop.hf_folder import lasting_name
from dg2_jax.models import folder as model
from dg2_jax.models import weights_file

_IMAGE_SIZE = 256  # pixels: what the published model was trained at, latents of 32 x 32


def convert(
    path: str | os.PathLike,
    folder: str | os.PathLike,
    vae: str | None = None,
    text_encoder: str | None = None,
    default_size: int = _IMAGE_SIZE,
) -> None:
    """Write the model folder of a checkpoint, in float32; config.json last.

    Only one set of weights is in memory at a time. If the file has only the raw weights or only
    their average, that set is used for both. The folder names the autoencoder and the text encoder
    without containing them.

    Args:
        path: the checkpoint.
        folder: created if missing.
        vae: hub id or local folder of the autoencoder; None takes the id in the file.
        text_encoder: hub id or local folder of the CLIP; None takes the id in the file.
        default_size: side of a picture in pixels, which is not in the file.

    Raises:
        FileNotFoundError: there is no such checkpoint, or `vae` or `text_encoder` is neither a
            folder nor a hub id.
        CheckpointError: as `diffusiongen2.load`.
        ValueError: `default_size` is not positive, or `path` is a folder or a safetensors file; the
            message names its kind, and what reads it.
    """
    if default_size < 1:
        raise ValueError(f"default_size must be a positive number of pixels, got {default_size}")
    recognition.refuse(Path(path))
    folder = Path(folder)
    source = open_checkpoint(path)
    settings = source.config
    vae_name = lasting_name(vae or settings.vae)
    text_name = lasting_name(text_encoder or settings.text_encoder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for weights in ("ema", "raw"):
        unet = source.unet(weights)
        flat = weights_file.flatten(nnx.to_pure_dict(nnx.state(unet)))
        name = f"denoiser.{weights}.safetensors"
        _write_safetensors(folder / name, flat)
        files[name] = sha256(folder / name)
        del unet, flat
    diffusion: dict[str, Any] = {
        "schedule": source.schedule.name,
        "prediction_type": settings.diffusion.prediction_type,
        "num_train_timesteps": settings.diffusion.num_train_timesteps,
    }
    if source.schedule.name == IMPORTED:
        diffusion["alpha_bar"] = source.schedule.alpha_bar.tolist()
    config = {
        "format": model.FORMAT,
        "model": "dg2_unet",
        "denoiser": dataclasses.asdict(settings.unet),
        "diffusion": diffusion,
        "vae": {"pretrained": vae_name},
        # Without max_length, prompts are padded to what the encoder takes, as in training.
        "text_encoder": {"name": text_name},
        "default_size": default_size,
        "files": files,
    }
    with replacing(folder / "config.json") as partial:
        partial.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _write_safetensors(path: Path, flat: Mapping[str, Any]) -> None:
    """Writes one tensor at a time; the usual writer would first copy all of them."""
    header, end = {}, 0
    for name, leaf in flat.items():
        begin, end = end, end + 4 * leaf.size
        header[name] = {"dtype": "F32", "shape": leaf.shape, "data_offsets": (begin, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for leaf in flat.values():
            file.write(np.ascontiguousarray(leaf, "<f4").data)
