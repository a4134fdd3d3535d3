"""From prompts as text files to what an index holds.

A prompts folder holds `<split>/<category>.txt`, one prompt per line; `_` in a file name is a space.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dg2_jax.bank import store
from dg2_jax.data.text_files import decode, lines

HERE = Path(__file__).parent
PROMPTS = HERE / "prompts"
SHIPPED = HERE / "index" / "minilm"
_PART = 256  # prompts encoded at a time: an encoder also returns all token embeddings


def read_prompts(folder: Path = PROMPTS) -> list[store.Entry]:
    """All prompts of a folder, by split, category and line.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: naming file and line, if a prompt is empty or repeated.
    """
    entries: list[store.Entry] = []
    seen: dict[str, str] = {}
    for split in store.SPLITS:
        for path in sorted((folder / split).glob("*.txt")):
            text = decode(path.read_bytes(), str(path))
            for number, line in enumerate(lines(text), 1):
                where = f"{path}, line {number}"
                prompt = " ".join(line.split())
                if not prompt:
                    raise ValueError(f"{where} is empty")
                if prompt.casefold() in seen:
                    raise ValueError(f"{where} is also {seen[prompt.casefold()]}: {prompt!r}")
                seen[prompt.casefold()] = where
                entries.append(store.make_entry(prompt, path.stem.replace("_", " "), split))
    if not entries:
        raise FileNotFoundError(f"no prompts at {folder}/<split>/<category>.txt")
    return entries


def embed(encoder: Any, prompts: Sequence[str]) -> np.ndarray:
    """Sentence vectors (B, D) float32 of B prompts by a `TextEncoder`."""
    parts = [prompts[i : i + _PART] for i in range(0, len(prompts), _PART)]
    return np.concatenate([np.asarray(encoder.encode(list(part)).pooled) for part in parts])
