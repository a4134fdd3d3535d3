"""What a folder or a safetensors file is that was given for a DiffusionGen2 checkpoint, and what
takes it.
"""

import json
from collections.abc import Collection
from pathlib import Path

from safetensors import SafetensorError, safe_open

from dg2_jax.interop import file_kinds

_VAE = "an autoencoder: give its folder as --vae"
_CLIP = "a CLIP text encoder: give its folder as --text_encoder"


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
        return "a training run: scripts.export makes a model folder of its checkpoints"
    checkpoints = sorted(file.name for file in path.glob("*.pt"))
    if checkpoints:
        return f"a folder that holds {', '.join(checkpoints[:4])}: name one of these files"
    return "a folder, and not one of a model"


def _safetensors(path: Path) -> str:
    try:
        with safe_open(str(path), "numpy") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
    except (SafetensorError, OSError):
        return "a damaged safetensors file"
    if (path.parent / "config.json").is_file() and "denoiser" in _json(path.parent / "config.json"):
        return f"part of a model folder: use --model={path.parent}"
    if "lora" in metadata.get("format", "") or _any(names, "lora_"):
        return f"a LoRA: scripts.sample takes it as --lora={path}"
    if _any(names, "model.diffusion_model."):
        return "a Stable Diffusion checkpoint in one safetensors file"
    if _any(names, "first_stage_model.") or _any(names, "decoder.conv_in."):
        return f"{_VAE} (config.json and diffusion_pytorch_model.safetensors)"
    if _any(names, "text_model."):
        return f"{_CLIP} (config.json and model.safetensors)"
    shown = ", ".join(sorted(names)[:3]) or "nothing"
    return f"a safetensors file of other weights ({shown}, ...)"


def _any(names: Collection[str], part: str) -> bool:
    return any(part in name for name in names)


def _json(path: Path) -> dict:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
