"""Encodes a captioned image data set once, so that training reads latents and token embeddings.

What is written is described in `dg2_jax.data.latents`.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from tqdm import tqdm

from dg2_jax import checkpoint, preview
from dg2_jax.data import latents
from dg2_jax.files import sha256
from dg2_jax.images import from_uint8
from dg2_jax.nn.autoencoder import AutoencoderConfig, AutoencoderKL

IMAGE_BATCH = 64
# Captions are encoded sorted by length; the more at a time, the less is padded.
CHUNK = 512
PREVIEW_IMAGES = 256  # that the linear preview is fitted to


def save_autoencoder(folder: Path, config: AutoencoderConfig, params: Any) -> None:
    """Writes vae.json and vae.safetensors (bfloat16)."""
    checkpoint.save_weights(folder / "vae.safetensors", params, jnp.bfloat16)
    (folder / "vae.json").write_text(json.dumps(config.to_dict(), indent=1) + "\n", "utf-8")


def load_autoencoder(folder: str | Path) -> AutoencoderKL:
    """Reads what `save_autoencoder` wrote.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: one is damaged, or they do not belong together.
    """
    path = Path(folder) / "vae.json"
    if not path.is_file():
        raise FileNotFoundError(f"no autoencoder in {folder} (no vae.json)")
    try:
        config = AutoencoderConfig.from_dict(json.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    shapes = nnx.eval_shape(lambda: AutoencoderKL(config, rngs=nnx.Rngs(0)))
    graphdef, variables = nnx.split(shapes)
    params = checkpoint.load_weights(Path(folder) / "vae.safetensors", nnx.to_pure_dict(variables))
    return nnx.merge(graphdef, params)


class _Statistics:
    """Mean and standard deviation of the latents, a channel each, over draws of the posterior."""

    def __init__(self, channels: int):
        self.count = 0
        self.sum, self.squares = np.zeros(channels), np.zeros(channels)

    def add(self, mean: np.ndarray, logvar: np.ndarray) -> None:
        m, variance = mean.astype(np.float64), np.exp(logvar.astype(np.float64))
        self.count += m[..., 0].size
        self.sum += m.sum((0, 1))
        self.squares += (m**2 + variance).sum((0, 1))  # E z² = μ² + σ²

    def channels(self) -> tuple[np.ndarray, np.ndarray]:
        mean = self.sum / self.count
        return mean, np.sqrt(self.squares / self.count - mean**2)

    def overall(self) -> tuple[float, float]:
        mean = self.sum.mean() / self.count
        return float(mean), float(np.sqrt(self.squares.mean() / self.count - mean**2))


def encode_dataset(
    sources: Mapping[str, Sequence[Mapping[str, Any]]],
    attributes: Mapping[str, Sequence[str]],
    vae_dir: str | Path,
    text_encoder: Any,  # a TextEncoder, or what has its attributes and `encode`
    output_dir: str | Path,
    *,
    dataset: str = "dg2_scenes",
    progress: bool = True,
) -> dict[str, Any]:
    """Encodes every split into a new folder, complete or not there at all.

    The latents' mean and standard deviation are measured on the split `train`; shift_factor and
    scaling_factor, which bring them to mean 0 and variance 1, go to the manifest and to the copy of
    the autoencoder's configuration.

    Args:
        sources: split to examples: image (uint8 (h, w, 3)), captions (byte strings), attributes.
        attributes: name to its values, which an example holds as an index.
        vae_dir: holds vae.json and vae.safetensors.
        text_encoder: encodes the captions.
        output_dir: the new folder; one that this call would make anew is left alone.
        dataset: what was encoded, with its version; for the manifest.
        progress: show a bar.

    Returns:
        The manifest.

    Raises:
        ValueError: there is no split `train`, or `output_dir` holds something else.
        FileNotFoundError: the autoencoder is missing.
    """
    if "train" not in sources:
        raise ValueError(f"sources must hold the split train, got {sorted(sources)}")
    vae, output = load_autoencoder(vae_dir), Path(output_dir)
    identity = {
        "format": latents.FORMAT,
        "dataset": dataset,
        "splits": {split: len(source) for split, source in sources.items()},
        "text_encoder": {"name": text_encoder.name, "max_length": text_encoder.max_length},
        "context_dim": text_encoder.context_dim,
        "vae_sha256": sha256(Path(vae_dir) / "vae.safetensors"),
        "attributes": {name: list(values) for name, values in attributes.items()},
    }
    if output.exists():
        found = latents.read_manifest(output) if (output / "manifest.json").exists() else {}
        different = [key for key in identity if found.get(key) != identity[key]]
        if different:
            raise ValueError(
                f"output_dir: {output} exists and differs in {', '.join(different)}; "
                "remove it or name another folder"
            )
        return found
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    moments = _moments(vae)
    statistics = _Statistics(vae.config.latent_channels)
    for split, source in sources.items():
        records = _records(source, list(attributes), moments, text_encoder, split, progress)
        measured = _measured(records, statistics) if split == "train" else records
        latents.write_split(partial / f"{split}.array_record", measured)
    mean, std = statistics.channels()
    shift, spread = statistics.overall()
    config = dataclasses.replace(vae.config, scaling_factor=1.0 / spread, shift_factor=shift)
    manifest = identity | {
        "latent_mean": mean.tolist(),
        "latent_std": std.tolist(),
        "scaling_factor": config.scaling_factor,
        "shift_factor": shift,
        "preview": _linear_preview(sources["train"], moments, config).to_dict(),
    }
    shutil.copyfile(Path(vae_dir) / "vae.safetensors", partial / "vae.safetensors")
    (partial / "vae.json").write_text(json.dumps(config.to_dict(), indent=1) + "\n", "utf-8")
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    partial.rename(output)
    return manifest


def _linear_preview(
    source: Sequence[Mapping[str, Any]],
    moments: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    config: AutoencoderConfig,
) -> preview.LatentToRGB:
    """The map from scaled latents to colours, fitted to the first pictures of a split."""
    images = np.stack([source[i]["image"] for i in range(min(PREVIEW_IMAGES, len(source)))])
    batches = (images[i : i + IMAGE_BATCH] for i in range(0, len(images), IMAGE_BATCH))
    mean = np.concatenate([moments(batch)[0] for batch in batches]).astype(np.float64)
    return preview.fit_latent_to_rgb((mean - config.shift_factor) * config.scaling_factor, images)


def _moments(vae: AutoencoderKL) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """uint8 (b, h, w, 3) to the float16 posterior moments, compiled for full batches."""
    graphdef, params = nnx.split(vae)

    @jax.jit
    def encode(params: Any, images: Array) -> tuple[Array, Array]:
        posterior = nnx.merge(graphdef, params).encode(from_uint8(images))
        return posterior.mean.astype(jnp.float16), posterior.logvar.astype(jnp.float16)

    def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        missing = IMAGE_BATCH - len(images)
        padded = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
        mean, logvar = encode(params, padded)
        return np.asarray(mean)[: len(images)], np.asarray(logvar)[: len(images)]

    return moments


def _records(
    source: Sequence[Mapping[str, Any]],
    attributes: Sequence[str],
    moments: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    text_encoder: Any,  # a TextEncoder, or what has its attributes and `encode`
    split: str,
    progress: bool,
) -> Iterator[dict[str, np.ndarray]]:
    """The records of a split, in order."""
    bar = tqdm(total=len(source), desc=split, unit=" images", disable=not progress)
    for start in range(0, len(source), CHUNK):
        examples = [source[i] for i in range(start, min(start + CHUNK, len(source)))]
        captions = [[c.decode() for c in e["captions"]] for e in examples]
        encoding = text_encoder.encode([c for of_image in captions for c in of_image])
        context, mask = np.asarray(encoding.context), np.asarray(encoding.mask)
        row = 0
        for first in range(0, len(examples), IMAGE_BATCH):
            batch = examples[first : first + IMAGE_BATCH]
            means, logvars = moments(np.stack([e["image"] for e in batch]))
            for i, example in enumerate(batch):
                rows = slice(row, row + len(captions[first + i]))
                lengths = mask[rows].sum(axis=1)
                yield {
                    "mean": means[i],
                    "logvar": logvars[i],
                    "tokens": context[rows][mask[rows]].astype(np.float16),
                    "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
                    "attributes": np.array([example[name] for name in attributes], np.int32),
                }
                row = rows.stop
            bar.update(len(batch))
    bar.close()


def _measured(
    records: Iterator[dict[str, np.ndarray]], statistics: _Statistics
) -> Iterator[dict[str, np.ndarray]]:
    for record in records:
        statistics.add(record["mean"], record["logvar"])
        yield record
