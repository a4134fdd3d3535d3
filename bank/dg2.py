"""DiffusionGen2's prompt banks, a `.pt` file per split, as a bank of this project."""

from pathlib import Path

import numpy as np

from dg2_jax.bank import store
from dg2_jax.interop.dg2_prompts import read_bank

ENCODER = "clip"  # the pooled output of openai/clip-vit-base-patch32


def files(path: Path) -> list[Path]:
    """The files of a bank: `path` itself, or those of a folder that holds no index of ours."""
    if path.is_dir() and not (path / store.INDEX).exists():
        return sorted(path.glob("*.pt"))
    return [path] if path.suffix == ".pt" else []


def read(paths: list[Path]) -> store.StoredBank:
    """Reads a bank.

    Args:
        paths: its files; the name of one of the validation split holds "val", others are of the
            training split. A prompt that is repeated in its category is taken once.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: one is damaged or holds something else, or their vectors differ in width.
    """
    entries: dict[str, store.Entry] = {}
    vectors = []
    for path in paths:
        split = "validation" if "val" in path.stem.lower() else "train"
        for category, (texts, rows) in read_bank(path).items():
            for text, row in zip(texts, rows, strict=True):
                entry = store.make_entry(" ".join(text.split()), category, split)
                if entry.prompt and entry.id not in entries:
                    entries[entry.id] = entry
                    vectors.append(row / max(float(np.linalg.norm(row)), 1e-12))
    widths = {len(vector) for vector in vectors}
    if len(widths) != 1:
        raise ValueError(
            f"the vectors of {', '.join(path.name for path in paths)} must be of one width, "
            f"got {sorted(widths)}"
        )
    return store.StoredBank(ENCODER, list(entries.values()), np.stack(vectors).astype(np.float16))
