"""The encoded data set: VAE moments and token embeddings of every image, in array records.

A folder holds manifest.json, the autoencoder that made it (vae.json, vae.safetensors) and
`<split>.array_record`. A record is one image, as safetensors bytes:

    mean, logvar   float16 (h, w, c), of the posterior of the unscaled latents
    tokens         float16 (sum of the captions' lengths, d), the captions one after another
    offsets        int32 (captions + 1,), where each caption starts in `tokens`
    attributes     int32 (attributes,), indices into the manifest's `attributes`

Moments, not samples, are kept, so that training draws the posterior anew each epoch.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from dg2_jax.data.loader import Batch, Example

FORMAT = 1
# Contexts are padded to the least of these that holds the batch: few shapes, few compilations.
LENGTH_STEP = 32


def write_split(path: str | Path, examples: Iterator[Mapping[str, np.ndarray]]) -> int:
    """Writes examples with the keys of a record, and returns how many there were."""
    # One record a group and no compression: float16 noise does not compress, access is random.
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    count = 0
    try:
        for count, example in enumerate(examples, start=1):  # noqa: B007
            writer.write(safetensors.numpy.save(dict(example)))
    finally:
        writer.close()
    return count


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of an encoded data set.

    Returns:
        format; dataset; splits (name to count); context_dim; text_encoder (name, max_length);
        vae_sha256; attributes (name to its values); latent_mean and latent_std (one a channel,
        unscaled); scaling_factor; shift_factor; preview (a `preview.LatentToRGB` as plain data).

    Raises:
        FileNotFoundError: there is no encoded data set.
        ValueError: the manifest is damaged or of another format.
    """
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"data_dir: no encoded data set in {folder} (no manifest.json); make one with: "
            f"python -m scripts.encode --output_dir={folder} ..."
        )
    try:
        manifest = json.loads(path.read_text("utf-8"))
        found = manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from error
    if found != FORMAT:
        raise ValueError(f"{path}: format must be {FORMAT}, got {found!r}; encode again")
    return manifest


class LatentSource:
    """Random access to the records of a split."""

    def __init__(self, folder: str | Path, split: str):
        """Opens a split.

        Raises:
            FileNotFoundError: the data set or the split's file is missing.
            ValueError: the split is unknown, or its file is damaged or short.
        """
        splits = read_manifest(folder)["splits"]
        if split not in splits:
            raise ValueError(f"split must be one of {', '.join(splits)}; got {split!r}")
        self.path = Path(folder) / f"{split}.array_record"
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} is missing; encode the data set again")
        try:
            self._records = ArrayRecordDataSource([str(self.path)])
            found = len(self._records)
        except Exception as error:  # the reader's own exceptions have no common class
            raise ValueError(f"{self.path} is damaged: {error}") from error
        if found != splits[split]:
            raise ValueError(
                f"{self.path} is damaged: it holds {found} records, not {splits[split]}"
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """The record at `index`, with the keys of this module's description.

        Raises:
            ValueError: the record is damaged, naming file and index.
        """
        try:
            return safetensors.numpy.load(self._records[int(index)])
        except Exception as error:  # as above
            raise ValueError(f"{self.path}: record {index} is damaged: {error}") from error


def draw_caption(
    record: Mapping[str, np.ndarray], rng: np.random.Generator | None = None, max_length: int = 64
) -> Example:
    """One caption of a record, drawn by `rng` (the first without), and the moments."""
    offsets = record["offsets"]
    which = 0 if rng is None else int(rng.integers(len(offsets) - 1))
    start, end = int(offsets[which]), int(offsets[which + 1])
    return {
        "mean": record["mean"],
        "logvar": record["logvar"],
        "context": record["tokens"][start : min(end, start + max_length)],
    }


def caption_drawer(max_length: int) -> Callable[[Mapping[str, np.ndarray], Any], Example]:
    """`draw_caption` as a transform of the loader."""
    return lambda record, rng: draw_caption(record, rng, max_length)


def caption_dropout(
    null: np.ndarray, share: float
) -> Callable[[Example, np.random.Generator], Example]:
    """A transform of the loader: a share of the contexts gives way to `null` (l, d).

    For denoisers without a null context of their own; the others drop captions in their loss.

    Raises:
        ValueError: `share` is not in [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be in [0, 1], got {share}")

    def transform(example: Example, rng: np.random.Generator) -> Example:
        return {**example, "context": null} if rng.random() < share else example

    return transform


def collate(examples: Sequence[Example], length: int | None = None) -> Batch:
    """Stacks examples, their contexts padded behind a mask.

    Args:
        examples: with mean, logvar (h, w, c) and context (tokens, d).
        length: of the padded contexts; None takes the least multiple of 32 that holds them.

    Returns:
        mean, logvar (b, h, w, c) and context (b, l, d), float16, and mask (b, l), True on tokens.
    """
    contexts = [e["context"] for e in examples]
    if length is None:
        longest = max(1, max(len(c) for c in contexts))
        length = -(-longest // LENGTH_STEP) * LENGTH_STEP
    context = np.zeros((len(examples), length, contexts[0].shape[1]), np.float16)
    mask = np.zeros((len(examples), length), bool)
    for i, tokens in enumerate(contexts):
        context[i, : len(tokens)] = tokens
        mask[i, : len(tokens)] = True
    return {
        "mean": np.stack([e["mean"] for e in examples]),
        "logvar": np.stack([e["logvar"] for e in examples]),
        "context": context,
        "mask": mask,
    }
