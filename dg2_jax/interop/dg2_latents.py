"""DiffusionGen2's published training shards: `.pt` files of latents and text tokens.

A shard is a dictionary of `latents` (n, c, h, w), already scaled by the autoencoder's factor,
`text_embd` (n, l, d) and `null_embd`, (l, d) or (1, l, d), the tokens of the empty prompt.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dg2_jax.interop.torch_checkpoint import CheckpointError, read_torch

# The shards hold latents, not posteriors: a log-variance under which every draw is the mean.
_CERTAIN = -60.0


@dataclass(frozen=True, eq=False)
class LatentShard:
    """One shard; the arrays view the memory-mapped file.

    Attributes:
        latents: (n, h, w, c), scaled.
        text: (n, l, d), token embeddings.
        null: (l, d), the tokens of the empty prompt.
    """

    latents: np.ndarray
    text: np.ndarray
    null: np.ndarray


def read_shard(path: str | os.PathLike) -> LatentShard:
    """Read a shard.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or its arrays are missing or do not fit together.
    """
    content = read_torch(path)
    arrays = {}
    for name in ("latents", "text_embd", "null_embd"):
        value = content.get(name) if isinstance(content, dict) else None
        if not isinstance(value, np.ndarray):
            raise CheckpointError(f"{path}: not a latent shard, it has no tensor {name!r}")
        arrays[name] = value
    latents, text, null = arrays["latents"], arrays["text_embd"], arrays["null_embd"]
    if null.ndim == 3 and len(null) == 1:
        null = null[0]
    if latents.ndim != 4 or text.ndim != 3 or len(latents) != len(text):
        raise CheckpointError(
            f"{path}: latents {latents.shape} and text_embd {text.shape} must be (n, c, h, w) and "
            "(n, l, d) of one n"
        )
    if null.shape != text.shape[1:]:
        raise CheckpointError(f"{path}: null_embd {null.shape} must be {text.shape[1:]}")
    return LatentShard(latents.transpose(0, 2, 3, 1), text, null)


class LatentShards:
    """Random access to the examples of a folder of shards, in the order of their names.

    An example is what `training.step` takes, one image: `mean` and `logvar` (h, w, c) of the
    posterior of the latents, which are scaled already, and `context` (l, d), float32.
    """

    def __init__(self, folder: str | os.PathLike):
        """Maps every `.pt` file of the folder; reads none of the latents yet.

        Raises:
            FileNotFoundError: the folder has no `.pt` file.
            CheckpointError: a shard is damaged or of other shapes than the first.
        """
        paths = sorted(Path(folder).glob("*.pt"))
        if not paths:
            raise FileNotFoundError(f"no .pt shards in {folder}")
        self.shards = [read_shard(path) for path in paths]
        first = self.shards[0]
        for path, shard in zip(paths, self.shards, strict=True):
            shapes = (shard.latents.shape[1:], shard.text.shape[1:])
            if shapes != (first.latents.shape[1:], first.text.shape[1:]):
                raise CheckpointError(f"{path}: its shapes {shapes} differ from the first shard's")
        self.null = np.asarray(first.null, np.float32)
        self._ends = np.cumsum([len(shard.latents) for shard in self.shards])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """The example `index`, 0 to len - 1."""
        if not 0 <= index < len(self):
            raise IndexError(f"index must be in [0, {len(self)}), got {index}")
        which = int(np.searchsorted(self._ends, index, side="right"))
        shard = self.shards[which]
        place = index - int(self._ends[which]) + len(shard.latents)
        mean = np.asarray(shard.latents[place], np.float32)
        context = np.asarray(shard.text[place], np.float32)
        return {"mean": mean, "logvar": np.full_like(mean, _CERTAIN), "context": context}
