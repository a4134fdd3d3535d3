"""The encoded data set: VAE moments and token embeddings of every image, in array records.

A folder holds manifest.json, the autoencoder it was encoded with (vae.json, vae.safetensors) and
shards: array records of pictures of one split and one size. A record is one image, as safetensors
bytes:

    mean, logvar   float16 (h, w, c), of the posterior of the unscaled latents
    tokens         float16 (sum of the captions' lengths, d), the captions one after another
    offsets        int32 (captions + 1,), where each caption starts in `tokens`
    attributes     int32 (attributes,), indices into the manifest's `attributes`
    pooled         float16 (captions, e), of models that take one: a vector of each caption
    ids            int32 (as `tokens`, encoders), of Stable Diffusion: what `tokens` were made of

Moments are stored instead of samples, so that training draws from the posterior in each epoch.
"""

import bisect
import itertools
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from dg2_jax.data.loader import Batch, Example

_LOG = logging.getLogger(__name__)

FORMAT = 2
# Contexts are padded to the smallest of these that holds the batch: few shapes, few compilations.
LENGTH_STEP = 32


def write_split(path: str | Path, examples: Iterable[Mapping[str, np.ndarray]]) -> int:
    """Writes examples with the keys of a record, and returns how many there were."""
    # One record per group, uncompressed: float16 noise does not compress, and access is random.
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
        format; dataset; splits (name to count); shards (of each its file, split, size (height,
        width) of the pictures, count and sha256); size (side of a square picture); context_dim;
        text_encoder (name, max_length); model; vae_sha256; attributes (name to its values);
        latent_mean and latent_std (one per channel, unscaled); scaling_factor; shift_factor;
        preview (a `preview.LatentToRGB` as plain data).

    Raises:
        FileNotFoundError: there is no encoded data set.
        ValueError: the manifest is damaged or of another format.
    """
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"data_dir: no encoded data set in {folder} (no manifest.json); make one with: "
            f"dg2 prepare --out={folder} ..."
        )
    try:
        manifest = json.loads(path.read_text("utf-8"))
        version = manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from error
    if version != FORMAT:
        raise ValueError(f"{path}: format must be {FORMAT}, got {version!r}; prepare it again")
    return manifest


def open_split(
    folder: str | Path, split: str, *, skip_damaged: bool = False
) -> list["LatentSource"]:
    """The records of a split, one source for each size of pictures, the commonest first.

    Args:
        folder: of the encoded data set.
        split: its name.
        skip_damaged: as of `LatentSource`.

    Raises:
        FileNotFoundError: there is no encoded data set.
        ValueError: it has no such split, or what `LatentSource` raises.
    """
    manifest = read_manifest(folder)
    if split not in manifest["splits"]:
        allowed = ", ".join(manifest["splits"])
        raise ValueError(f"split must be one of {allowed}; got {split!r}")
    by_size = sources(folder, manifest["shards"], split, skip_damaged=skip_damaged)
    return sorted(by_size.values(), key=len, reverse=True)


def sources(
    folder: str | Path,
    shards: Sequence[Mapping[str, Any]],
    split: str,
    *,
    skip_damaged: bool = False,
) -> dict[Any, "LatentSource"]:
    """The sources of a split by the size of their pictures; `shards` as of a manifest."""
    of_size: dict[Any, list[Mapping[str, Any]]] = {}
    for shard in shards:
        if shard["split"] == split:
            of_size.setdefault(tuple(shard["size"]), []).append(shard)
    return {
        size: LatentSource(folder, some, skip_damaged=skip_damaged)
        for size, some in of_size.items()
    }


class LatentSource:
    """Random access to the records of shards, in their order.

    Attributes:
        damaged: the indices of the records that could not be read so far.
    """

    def __init__(
        self,
        folder: str | Path,
        shards: Sequence[Mapping[str, Any]],
        *,
        skip_damaged: bool = False,
    ):
        """Opens the shards.

        Args:
            folder: that holds them.
            shards: `file` and `count` of each.
            skip_damaged: replace a record that cannot be read with the next one that can, so that
                what is skipped depends on the files alone. Otherwise it is an error.

        Raises:
            ValueError: a shard is missing, damaged or short, and may not be skipped.
        """
        self.damaged: set[int] = set()
        self._skip = skip_damaged
        self._paths = [Path(folder) / shard["file"] for shard in shards]
        self._ends = list(itertools.accumulate(shard["count"] for shard in shards))
        self._shards: list[ArrayRecordDataSource | str] = []  # or what is wrong with it
        for path, shard in zip(self._paths, shards, strict=True):
            opened = _open_shard(path, shard["count"])
            if isinstance(opened, str) and not skip_damaged:
                raise ValueError(f"{opened}; run dg2 prepare again to repair it")
            self._shards.append(opened)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """The record at `index`, with the keys of this module's description.

        Raises:
            ValueError: it is damaged, naming shard and record; or all are.
        """
        problem = ""
        for i in range(len(self) if self._skip else 1):
            at = (int(index) + i) % len(self)
            try:
                return self._read(at)
            except ValueError as error:
                problem = problem or str(error)
                if self._skip and at not in self.damaged:
                    self.damaged.add(at)
                    _LOG.warning("%s; skipped, with %d records so far", error, len(self.damaged))
        raise ValueError(problem)

    def _read(self, index: int) -> dict[str, np.ndarray]:
        which = bisect.bisect_right(self._ends, index)
        row = index - (self._ends[which - 1] if which else 0)
        shard = self._shards[which]
        if isinstance(shard, str):
            raise ValueError(shard)
        try:
            return safetensors.numpy.load(shard[row])
        except Exception as error:  # the reader's own exceptions have no common class
            raise ValueError(f"{self._paths[which]}: record {row} is damaged: {error}") from error


def _open_shard(path: Path, count: int) -> ArrayRecordDataSource | str:
    """A shard, or what is wrong with it."""
    if not path.is_file():
        return f"{path} is missing"
    try:
        shard = ArrayRecordDataSource([str(path)])
        size = len(shard)
    except Exception as error:  # as above
        return f"{path} is damaged: {error}"
    if size != count:
        return f"{path} is damaged: it holds {size} records, not {count}"
    return shard


def draw_caption(
    record: Mapping[str, np.ndarray],
    rng: np.random.Generator | None = None,
    max_length: int = 64,
    with_ids: bool = False,
) -> Example:
    """A caption of a record, drawn by `rng` (the first without), maybe its ids, and the moments."""
    offsets = record["offsets"]
    which = 0 if rng is None else int(rng.integers(len(offsets) - 1))
    start, end = int(offsets[which]), int(offsets[which + 1])
    kept = slice(start, min(end, start + max_length))
    more = {"pooled": record["pooled"][which]} if "pooled" in record else {}
    if with_ids:
        more["ids"] = record["ids"][kept]
    return {
        "mean": record["mean"],
        "logvar": record["logvar"],
        "context": record["tokens"][kept],
        **more,
    }


def caption_drawer(
    max_length: int, with_ids: bool = False
) -> Callable[[Mapping[str, np.ndarray], Any], Example]:
    """`draw_caption` as a transform of the loader."""
    return lambda record, rng: draw_caption(record, rng, max_length, with_ids)


def caption_dropout(
    null: np.ndarray,
    share: float,
    pooled: np.ndarray | None = None,
    ids: np.ndarray | None = None,
) -> Callable[[Example, np.random.Generator], Example]:
    """A transform of the loader: replaces a share of the contexts with `null` (l, d).

    For denoisers without a null context of their own; the others drop captions in their loss.
    Where examples have them, `pooled` and `ids` (l, encoders) go with `null`.

    Raises:
        ValueError: `share` is not in [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be in [0, 1], got {share}")

    more = {"pooled": pooled, "ids": ids}
    nothing = {"context": null} | {k: value for k, value in more.items() if value is not None}

    def transform(example: Example, rng: np.random.Generator) -> Example:
        return {**example, **nothing} if rng.random() < share else example

    return transform


def collate(examples: Sequence[Example], length: int | None = None, cell: int = 8) -> Batch:
    """Stacks examples, their contexts padded behind a mask.

    Args:
        examples: with mean, logvar (h, w, c) and context (tokens, d), maybe pooled (e,) and ids
            (tokens, encoders).
        length: of the padded contexts; None takes the smallest multiple of 32 that holds them.
        cell: side in pixels of a cell of the latents.

    Returns:
        mean, logvar (b, h, w, c) and context (b, l, d), float16, and mask (b, l), True on tokens;
        with pooled (b, e) also time_ids (b, 6): pictures of their own size that were not cropped;
        with ids (b, l, encoders), int32, padded with zeros.
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
    more = {}
    if "ids" in examples[0]:
        more["ids"] = np.zeros((*context.shape[:2], examples[0]["ids"].shape[1]), np.int32)
        for i, example in enumerate(examples):
            more["ids"][i, : len(example["ids"])] = example["ids"]
    if "pooled" in examples[0]:
        size = [cell * side for side in examples[0]["mean"].shape[:2]]
        more["pooled"] = np.stack([e["pooled"] for e in examples])
        more["time_ids"] = np.tile(np.array([*size, 0, 0, *size], np.int32), (len(examples), 1))
    return {
        "mean": np.stack([e["mean"] for e in examples]),
        "logvar": np.stack([e["logvar"] for e in examples]),
        "context": context,
        "mask": mask,
        **more,
    }
