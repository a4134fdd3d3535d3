"""Models in Hugging Face layout, a folder or on the hub: `config.json` and weights."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dg2_jax.files import read_json
from dg2_jax.interop import file_kinds
from dg2_jax.interop.safetensors_reader import read_index, read_safetensors
from dg2_jax.interop.torch_checkpoint import read_torch

HUB_ID = r"\w[\w.-]*/\w[\w.-]*"
LEGACY_STEMS = {"model": "pytorch_model"}  # of `.bin` files; other stems are the same for both


def lasting_name(source: str | os.PathLike) -> str:
    """What a model folder may call a pretrained model: its hub id, or a folder's absolute path.

    Raises:
        FileNotFoundError: it is neither.
    """
    if Path(source).expanduser().is_dir():
        return str(Path(source).expanduser().resolve())
    if not re.fullmatch(HUB_ID, os.fspath(source)):
        raise FileNotFoundError(
            f"{os.fspath(source)!r} is neither a folder nor a hub id such as owner/name"
        )
    return os.fspath(source)


def find_folder(
    source: str | os.PathLike, stem: str, more: Sequence[str] = (), subfolder: str = ""
) -> Path:
    """The folder of a model: `source` itself, or what the hub has of that id (fetched once).

    Args:
        source: a folder or a hub id, "owner/name".
        stem: of the weights' file name, such as "model" of model.safetensors.
        more: patterns of the files wanted beside config.json and the weights.
        subfolder: of that folder or model.

    Raises:
        FileNotFoundError: it is neither, or the hub cannot be reached and the model was not
            fetched before; says which files to place.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder / subfolder
    name = lasting_name(source)
    import httpx
    from huggingface_hub import snapshot_download

    prefix = f"{subfolder}/" if subfolder else ""
    legacy = f"{LEGACY_STEMS.get(stem, stem)}.bin"
    # One file or shards; then those of a variant, such as fp16; then PyTorch's.
    tries = (
        (f"{stem}.safetensors", f"{stem}.safetensors.index.json", f"{stem}-*.safetensors"),
        (f"{stem}.*.safetensors", f"{stem}.safetensors.index.*.json"),
        (legacy, f"{legacy}.index.json", legacy.replace(".bin", "-*.bin")),
    )
    files = [prefix + file for file in ("config.json", *more)]
    try:
        for weights in tries:
            patterns = [*files, *(prefix + file for file in weights)]
            fetched = Path(snapshot_download(name, allow_patterns=patterns)) / subfolder
            if any(fetched.glob("*.safetensors")):
                break
    except (OSError, ValueError, httpx.HTTPError) as error:
        beside = f" and {', '.join(more)}" if more else ""
        raise FileNotFoundError(
            f"the model {name!r} is not on this machine and could not be fetched "
            f"({type(error).__name__}). Put config.json and {stem}.safetensors (or {legacy})"
            f"{beside} of https://huggingface.co/{name} into a folder and name that folder"
        ) from error
    return fetched


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder; raises FileNotFoundError, or ValueError naming the file."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no config.json in {folder}")
    try:
        values = read_json(path)
    except ValueError as error:  # of which JSONDecodeError and UnicodeDecodeError are kinds
        file_kinds.refuse_other(path, "JSON")
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must be a JSON object")
    return values


def read_weights(folder: Path, stem: str, variant: str | None = None) -> dict[str, np.ndarray]:
    """All tensors of a model folder: one safetensors file or its shards, those of a variant such as
    fp16 (`model.fp16.safetensors`), or `.bin` files.

    Args:
        folder: of the model.
        stem: of the weights' file name.
        variant: the one to read; None: the file without one, or the variant there is.

    Raises:
        FileNotFoundError: there is none of them, or a shard is missing.
        CheckpointError: a file is damaged.
        ValueError: a `.bin` file holds something else, or there are several variants and no file
            without one.
    """
    legacy = LEGACY_STEMS.get(stem, stem)
    for stem_here, suffix, read in ((stem, "safetensors", read_safetensors), (legacy, "bin", _bin)):
        middle = "" if variant is None else f".{variant}"
        names = (f"{stem_here}{middle}.{suffix}", f"{stem_here}.{suffix}.index{middle}.json")
        plain = [folder / name for name in names]
        variants = [
            path
            for pattern in (f"{stem_here}.*.{suffix}", f"{stem_here}.{suffix}.index.*.json")
            for path in sorted(folder.glob(pattern))
            if variant is None and not re.search(r"-\d+-of-\d+\.", path.name)
        ]
        chosen = [p for p in plain if p.is_file()] or [p for p in variants if ".fp16." in p.name]
        chosen = chosen or variants
        if not chosen:
            continue
        if len(chosen) > 1 and chosen[0] not in plain:
            several = ", ".join(path.name for path in chosen)
            raise ValueError(f"{folder} must hold one variant of the weights, not {several}")
        path = chosen[0]
        return read_index(path, read) if path.suffix == ".json" else read(path)
    if variant is not None:
        raise FileNotFoundError(f"no weights of the variant {variant!r} in {folder}")
    raise FileNotFoundError(
        f"no weights in {folder}: expected {stem}.safetensors, {stem}.safetensors.index.json, one "
        f"of a variant such as {stem}.fp16.safetensors, {legacy}.bin or {legacy}.bin.index.json"
    )


def _bin(path: Path) -> dict[str, np.ndarray]:
    tensors = read_torch(path)
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):
        tensors = tensors["state_dict"]
    if not isinstance(tensors, dict):
        raise ValueError(f"{path} holds a {type(tensors).__name__}, not a state dict")
    return tensors
