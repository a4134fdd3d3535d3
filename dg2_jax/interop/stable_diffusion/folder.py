"""A diffusers folder of Stable Diffusion: model_index.json and a subfolder for each part."""

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from dg2_jax.files import read_json, replacing
from dg2_jax.interop import diffusers_vae, hf_folder, hf_text, recognition
from dg2_jax.interop.stable_diffusion.parts import Parts, TextPart
from dg2_jax.interop.stable_diffusion.scheduler import Scheduler, parse_scheduler
from dg2_jax.interop.stable_diffusion.unet_config import parse_unet
from dg2_jax.interop.torch_checkpoint import read_torch
from dg2_jax.nn.clip import ClipTextConfig

INDEX = "model_index.json"
STEM = "diffusion_pytorch_model"  # of the weights' file name; text encoders have another
_TEXT_STEM = "model"
ENCODERS = (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2"))
_MOST_CELLS = 4096  # on a side of a latent
_VARIANTS = ("", ".fp16", ".bf16")  # of weights, in the order of preference


def read_folder(
    folder: Path,
    *,
    variant: str | None = None,
    prediction_type: str | None = None,
    zero_terminal_snr: bool | None = None,
) -> Parts:
    """The parts of a model in a folder; arguments and errors as of `load`."""
    index = read_index(folder)
    unet, sample_size = read_unet_config(folder)
    texts = read_texts(
        folder, [name for name, _ in ENCODERS if recognition.has_part(index, name)], variant
    )
    if not texts:
        raise ValueError(f"{folder}: {INDEX} names no text encoder")
    vae, vae_tensors = read_vae_config(folder), _tensors(folder / "vae", STEM, variant)
    return Parts(
        unet=unet,
        unet_tensors=hf_folder.read_weights(folder / "unet", STEM, variant),
        vae=diffusers_vae.parse_config(vae),
        vae_tensors=diffusers_vae.as_configured(vae, vae_tensors),
        texts=texts,
        scheduler=read_scheduler(folder, prediction_type, zero_terminal_snr),
        zeros_for_no_prompt=zeros_for_no_prompt(index),
        sample_size=sample_size,
    )


def read_texts(
    folder: Path, encoders: Sequence[str], variant: str | None = None
) -> tuple[TextPart, ...]:
    """Some of `ENCODERS` of a folder, each with its tokenizer; raises as `load`."""
    texts = []
    for encoder, tokenizer in ENCODERS:
        if encoder in encoders:
            path = _part(folder, encoder)
            config = read_text_config(path)
            of = hf_text.load_tokenizer(_part(folder, tokenizer), config.vocab_size)
            pad = hf_text.clip_pad_id(folder / tokenizer, of)
            length = hf_text.clip_length(folder / tokenizer, config)
            tensors = _tensors(path, _TEXT_STEM, variant)
            texts.append(TextPart(config, tensors, of, pad, length))
    return tuple(texts)


def write_texts(folder: Path, texts: Sequence[TextPart]) -> list[str]:
    """Writes text encoders for `read_texts`; returns their names."""
    for (encoder, tokenizer), text in zip(ENCODERS, texts, strict=False):
        for name in (encoder, tokenizer):
            (folder / name).mkdir(parents=True, exist_ok=True)
        tensors = {key: np.ascontiguousarray(value) for key, value in text.tensors.items()}
        with replacing(folder / encoder / f"{_TEXT_STEM}.safetensors") as partial:
            save_file(tensors, str(partial))
        values = {"model_type": "clip_text_model", **dataclasses.asdict(text.config)}
        (folder / encoder / "config.json").write_text(json.dumps(values, indent=1) + "\n")
        text.tokenizer.save(str(folder / tokenizer / "tokenizer.json"))
        values = {
            "pad_token": text.tokenizer.id_to_token(text.pad_id),
            "model_max_length": text.length,
        }
        (folder / tokenizer / "tokenizer_config.json").write_text(json.dumps(values) + "\n")
    return [name for (name, _), _ in zip(ENCODERS, texts, strict=False)]


def read_index(folder: Path) -> dict[str, Any]:
    """model_index.json.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or of a model that is no Stable Diffusion.
    """
    index = _read_json(folder / INDEX)
    if recognition.is_refiner(index):
        raise ValueError(f"{folder} is {recognition.REFINER}")
    if not recognition.has_part(index, "unet"):
        kind = index.get("_class_name", "model without a UNet")
        raise ValueError(
            f"{folder} holds a {kind}; of diffusers folders, Stable Diffusion 1.x, 2.x and XL are "
            "read"
        )
    return index


def zeros_for_no_prompt(index: Mapping[str, Any]) -> bool:
    """Whether no prompt is zeros in the context, which is the default for XL."""
    is_xl = "XL" in str(index.get("_class_name"))
    return bool(index.get("force_zeros_for_empty_prompt", is_xl))


def read_unet_config(folder: Path) -> tuple[Any, int]:
    """Configuration of the UNet and side of the latents that it was trained on."""
    path = _part(folder, "unet")
    values = hf_folder.read_config(path)
    size = values.get("sample_size") or 64
    sides = size if isinstance(size, list) else [size]
    if any(type(side) is not int or not 1 <= side <= _MOST_CELLS for side in sides):
        allowed = f"integers from 1 to {_MOST_CELLS}"
        raise ValueError(f"{path}: sample_size must be {allowed}, got {size!r}")
    return _naming(path, parse_unet, values), max(sides)


def read_vae_config(folder: Path) -> dict[str, Any]:
    """What config.json of the autoencoder holds, which `diffusers_vae.parse_config` takes."""
    path = _part(folder, "vae")
    values = hf_folder.read_config(path)
    _naming(path, diffusers_vae.parse_config, values)
    return values


def read_scheduler(
    folder: Path, prediction_type: str | None, zero_terminal_snr: bool | None
) -> Scheduler:
    """The scheduler, with what is given in the place of what it says."""
    path = _part(folder, "scheduler") / "scheduler_config.json"
    return _naming(path, parse_scheduler, _read_json(path), prediction_type, zero_terminal_snr)


def read_text_config(folder: Path) -> ClipTextConfig:
    """Configuration of a text encoder; ValueError where it is none of CLIP's."""
    values = hf_folder.read_config(folder)
    kind = values.get("model_type")
    if kind not in ("clip", "clip_text_model"):
        raise ValueError(f"{folder}: model_type must be 'clip_text_model', got {kind!r}")
    return _naming(folder, ClipTextConfig.from_dict, values)


def _tensors(folder: Path, stem: str, variant: str | None) -> dict[str, np.ndarray]:
    """The weights of a part, of the variant where the part has it."""
    if variant is not None:
        with contextlib.suppress(FileNotFoundError):
            return hf_folder.read_weights(folder, stem, variant)
    return hf_folder.read_weights(folder, stem)


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The tensors of what `torch.save` wrote; nothing of it is run.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged or hostile.
        ValueError: it holds something else.
    """
    held = read_torch(path)
    held = held.get("state_dict", held) if isinstance(held, dict) else held
    if not isinstance(held, dict):
        raise ValueError(f"{path} holds a {type(held).__name__}, not a state dict")
    return {str(key): value for key, value in held.items() if isinstance(value, np.ndarray)}


def files_to_fetch(files: Sequence[str], variant: str | None = None) -> list[str]:
    """Of the files of a model on the hub, those that `read_folder` reads of the variant."""
    parts = ("unet", "vae", "scheduler", *(name for pair in ENCODERS for name in pair))
    texts = (".json", ".txt")
    chosen = [f for f in files if f.partition("/")[0] in (INDEX, *parts) and f.endswith(texts)]
    for part in parts:
        of_part = [f.removeprefix(f"{part}/") for f in files if f.startswith(f"{part}/")]
        for stem in (STEM, _TEXT_STEM):
            chosen += [f"{part}/{name}" for name in _weights(of_part, stem, variant)]
    return chosen


def _weights(files: Sequence[str], stem: str, variant: str | None) -> list[str]:
    legacy = hf_folder.LEGACY_STEMS.get(stem, stem)
    for middle in (*([] if variant is None else [f".{variant}"]), *_VARIANTS):
        for first, ending in ((stem, "safetensors"), (legacy, "bin")):
            one = f"{first}{middle}.{ending}"
            if one in files:
                return [one]
            shards = [
                name
                for name in files
                if name.startswith((f"{first}{middle}-", f"{first}-"))
                and name.endswith((f".{ending}", f"{middle}.{ending}"))
                and middle in name
            ]
            if shards:
                return shards
    return []


def _part(folder: Path, name: str) -> Path:
    if not (folder / name).is_dir():
        raise FileNotFoundError(f"the model {folder} has no folder {name}")
    return folder / name


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    try:
        values = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must be a JSON object")
    return values


def _naming(path: Path, parse: Any, *args: Any) -> Any:
    """`parse(*args)`, whose errors name the file."""
    try:
        return parse(*args)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from error
