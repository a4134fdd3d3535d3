"""Textual-inversion embeddings (Gal et al., arXiv 2208.01618): files that teach prompts a word.

`.safetensors` or `.pt`/`.bin` by the safe reader; in AUTOMATIC1111's layout (`string_to_param`,
`emb_params`), diffusers' (one tensor by its token), or XL's (`clip_l`, `clip_g`).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dg2_jax.interop.safetensors_reader import read_safetensors
from dg2_jax.interop.torch_checkpoint import read_torch

SUFFIXES = (".safetensors", ".pt", ".bin")
_OF_XL = ("clip_l", "clip_g")
_MOST_VECTORS = 75  # a chunk's

Vectors = tuple[Float[np.ndarray, "n _"], ...]  # of each text encoder


def pattern(name: str) -> re.Pattern[str]:
    """Where a prompt holds an embedding's name: as a word, in capitals or not."""
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)


def read(path: Path, widths: Sequence[int]) -> Vectors:
    """The vectors of an embedding, for text encoders of these widths.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or hostile, no embedding, or for other text encoders.
    """
    held = read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    arrays = _arrays(held)
    if not arrays:
        raise ValueError(f"{path} is no embedding: it holds no vectors of words")
    vectors = tuple(np.atleast_2d(np.asarray(value, np.float32)) for value in arrays)
    shapes = [one.shape for one in vectors]
    if any(len(shape) != 2 or not 1 <= shape[0] <= _MOST_VECTORS for shape in shapes):
        raise ValueError(f"{path} is no embedding: its arrays are {shapes}")
    if [width for _, width in shapes] != list(widths) or len({n for n, _ in shapes}) != 1:
        theirs = " and ".join(str(width) for _, width in shapes)
        ours = " and ".join(map(str, widths))
        raise ValueError(f"{path} is for text encoders of width {theirs}, this model's are {ours}")
    return vectors


def _arrays(held: Any) -> list[np.ndarray]:
    if not isinstance(held, dict):
        return []
    if isinstance(held.get("string_to_param"), dict):
        held = held["string_to_param"]
    arrays = {key: value for key, value in held.items() if isinstance(value, np.ndarray)}
    if set(_OF_XL) <= arrays.keys():
        return [arrays[name] for name in _OF_XL]
    return list(arrays.values()) if len(arrays) == 1 else []
