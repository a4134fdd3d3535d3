"""What a folder or a file is by what it holds, and what takes it."""

import enum
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from dg2_jax.files import read_json
from dg2_jax.interop import file_kinds, hf_folder

REFINER = "Stable Diffusion XL's refiner, which only finishes the base model's pictures: load that"

_ZIPPED = (".ckpt", ".pt", ".pth", ".bin")  # of what torch.save wrote

_UNET = "model.diffusion_model."
_REFINER_TEXT = "conditioner.embedders.0.model."  # the second text encoder in the first's place
_NOTHING = "a folder, and not one of a model"
_VAE = "an autoencoder: give its folder as --vae"
_CLIP = "a CLIP text encoder: give its folder as --text_encoder"


class Kind(enum.Enum):
    """What a path may be."""

    OWN = "a model folder"
    DIFFUSERS = "a folder of diffusers"
    SD_FILE = "a Stable Diffusion checkpoint in one file"
    CONTROLNET = "a ControlNet"
    OTHER = "something else"


def kind_of(path: Path) -> Kind:
    """What a path is by its names and headers; damaged and missing ones are OTHER."""
    if path.is_dir():
        if (path / "model_index.json").is_file():
            return Kind.DIFFUSERS
        config = path / "config.json"
        if _json(config).get("_class_name") == "ControlNetModel":
            return Kind.CONTROLNET
        is_own = config.is_file() and "_class_name" not in _json(config)
        return Kind.OWN if is_own and "model_type" not in _json(config) else Kind.OTHER
    if not path.is_file():
        return Kind.OTHER
    if path.suffix == ".safetensors":
        names = _names(path)
        if _any(names, "input_hint_block."):
            return Kind.CONTROLNET
        return Kind.SD_FILE if _any(names, _UNET) else Kind.OTHER
    return {".ckpt": Kind.SD_FILE, ".pth": Kind.CONTROLNET}.get(path.suffix, Kind.OTHER)


def is_whole(path: Path) -> bool:
    """Whether a path is a whole model that is opened here, of diffusers one with a UNet."""
    kind = kind_of(path)
    if kind is Kind.DIFFUSERS:
        index = _json(path / "model_index.json")
        return has_part(index, "unet") and not is_refiner(index)
    return kind is Kind.OWN or (kind is Kind.SD_FILE and not is_refiner_file(_names(path)))


def has_part(index: Mapping[str, Any], part: str) -> bool:
    """Whether a model_index.json names a part: [library, class]; [null, null]: it was left out."""
    value = index.get(part)
    return isinstance(value, list) and len(value) == 2 and value[1] is not None


def is_refiner(index: Mapping[str, Any]) -> bool:
    """Whether a model_index.json is of XL's refiner, which has the second text encoder alone."""
    alone = has_part(index, "text_encoder_2") and not has_part(index, "text_encoder")
    return alone or bool(index.get("requires_aesthetics_score"))


def is_refiner_file(names: Iterable[str]) -> bool:
    """Whether the tensors of a file are those of XL's refiner."""
    return any(name.startswith(_REFINER_TEXT) for name in names)


def may_be_hub_id(source: str) -> bool:
    """Whether a text has the form of a model's name on the hub."""
    return re.fullmatch(hf_folder.HUB_ID, source) is not None and not source.endswith(
        (".safetensors", *_ZIPPED)
    )


def refuse_model(path: Path) -> None:
    """Raises where a path that exists is not of Stable Diffusion, with what it is.

    Files are told apart when they are read; here those alone that nothing would read.

    Raises:
        ValueError: it is something else.
        FileNotFoundError: it is a folder without a model.
    """
    if path.is_dir() and kind_of(path) is Kind.OTHER:
        config = _json(path / "config.json")
        if name := config.get("_class_name"):
            raise ValueError(
                f"{path} holds a {name} alone; of diffusers, the folder of a whole model is read"
            )
        kind = _folder(path)
        if kind == _NOTHING:
            raise FileNotFoundError(f"{path} is not a model folder: it has no config.json")
        raise ValueError(f"{path} is {kind}")
    if path.is_file() and path.suffix not in (".safetensors", *_ZIPPED):
        raise ValueError(f"{path} must end in .safetensors or .ckpt to be a Stable Diffusion model")


def refuse(path: Path) -> None:
    """Raises where `path` is no `.pt` file, with what it is and what to use it for.

    Raises:
        ValueError: it is a folder or a safetensors file.
    """
    needed = "a checkpoint of DiffusionGen2 is a .pt file"
    if path.is_dir():
        raise ValueError(f"{path} is {_folder(path)}; {needed}")
    if path.is_file() and file_kinds.of_file(path) == "a safetensors file":
        raise ValueError(f"{path} is {_safetensors(path)}; {needed}")


def _folder(path: Path) -> str:
    config = _json(path / "config.json")
    if "denoiser" in config:
        return f"a model folder already: use it as --model={path}"
    if (path / "model_index.json").is_file():
        kind = _json(path / "model_index.json").get("_class_name", "of diffusers")
        return f"a pipeline of diffusers ({kind}); its autoencoder can be given as --vae={path}/vae"
    if config.get("_class_name") == "AutoencoderKL" or (path / "vae.json").is_file():
        return _VAE
    if str(config.get("model_type", "")).startswith("clip"):
        return _CLIP
    if (path / "checkpoints").is_dir():
        return "a training run: dg2 export makes a model folder of its checkpoints"
    checkpoints = sorted(file.name for file in path.glob("*.pt"))
    if checkpoints:
        return f"a folder that holds {', '.join(checkpoints[:4])}: name one of these files"
    return _NOTHING


def _safetensors(path: Path) -> str:
    try:
        with safe_open(str(path), "numpy") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
    except (SafetensorError, OSError):
        return "a damaged safetensors file"
    if (path.parent / "config.json").is_file() and "denoiser" in _json(path.parent / "config.json"):
        return f"part of a model folder: use --model={path.parent}"
    if "lora" in metadata.get("format", "") or _any(names, "lora_"):
        return f"a LoRA: dg2 sample takes it as --lora={path}"
    if _any(names, _UNET):
        return "a Stable Diffusion checkpoint in one safetensors file"
    if _any(names, "first_stage_model.") or _any(names, "decoder.conv_in."):
        return f"{_VAE} (config.json and diffusion_pytorch_model.safetensors)"
    if _any(names, "text_model."):
        return f"{_CLIP} (config.json and model.safetensors)"
    shown = ", ".join(sorted(names)[:3]) or "nothing"
    return f"a safetensors file of other weights ({shown}, ...)"


def _names(path: Path) -> list[str]:
    """Of a safetensors file's tensors; none of a damaged one."""
    try:
        with safe_open(str(path), "numpy") as file:
            return list(file.keys())
    except (SafetensorError, OSError):
        return []


def _any(names: Collection[str], part: str) -> bool:
    return any(part in name for name in names)


def _json(path: Path) -> dict:
    try:
        values = read_json(path)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
