"""Converts a published DiffusionGen2 checkpoint to a model folder (see `dg2_jax.model`)."""

import dataclasses
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from dg2_jax import checkpoint, model, schedules
from dg2_jax.files import sha256
from dg2_jax.interop.diffusiongen2 import open_checkpoint
from dg2_jax.interop.torch_checkpoint import CheckpointError

VAE = "stabilityai/sd-vae-ft-ema"
_IMAGE_SIZE = 256  # what the published model was trained at: latents of 32 x 32


def convert(path: str | os.PathLike, folder: str | os.PathLike) -> None:
    """Write the model folder of a checkpoint, in float32; config.json last.

    One set of weights is in memory at a time. Where the file has no average, the raw weights stand
    in for it.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        CheckpointError: as `diffusiongen2.load`, or its schedule has no name in `schedules`.
    """
    folder = Path(folder)
    source = open_checkpoint(path)
    if source.schedule.name not in schedules.SCHEDULES:
        raise CheckpointError(f"{path}: its noise schedule is none of this library's by name")
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for weights in model.WEIGHTS:
        unet = source.unet(weights if weights in source.states else "raw")
        flat = checkpoint.flatten(nnx.to_pure_dict(nnx.state(unet)))
        name = f"denoiser.{weights}.safetensors"
        _write_safetensors(folder / name, flat)
        files[name] = sha256(folder / name)
        del unet, flat
    diffusion = source.config.diffusion
    config = {
        "format": model.FORMAT,
        "model": "dg2_unet",
        "denoiser": dataclasses.asdict(source.config.unet),
        "diffusion": {
            "schedule": source.schedule.name,
            "prediction_type": diffusion.prediction_type,
            "num_train_timesteps": diffusion.num_train_timesteps,
        },
        "vae": {"pretrained": VAE},
        "text_encoder": {"name": "clip", "max_length": 77},
        "default_size": _IMAGE_SIZE,
        "files": files,
    }
    partial = folder / "config.json.partial"
    partial.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / "config.json")


def _write_safetensors(path: Path, flat: Mapping[str, Any]) -> None:
    """Tensor after tensor: the usual writer makes a copy of all of them first."""
    header, end = {}, 0
    for name, leaf in flat.items():
        begin, end = end, end + 4 * leaf.size
        header[name] = {"dtype": "F32", "shape": leaf.shape, "data_offsets": (begin, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for leaf in flat.values():
            file.write(np.ascontiguousarray(leaf, "<f4").data)
    partial.replace(path)
