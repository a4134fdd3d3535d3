"""Encodes captioned pictures, so that training reads latents and token embeddings.

`dg2_jax.data.latents` describes the records; `dg2_jax.data.preparation` writes them.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from dg2_jax.files import read_json
from dg2_jax.models import weights_file
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.pictures.images import from_uint8
from dg2_jax.text.stable_diffusion import StableDiffusionText

IMAGE_BATCH = 64  # pictures of 128 x 128; of larger ones fewer
# Captions are encoded sorted by length; larger groups need less padding.
CHUNK = 512


def save_autoencoder(
    folder: Path, config: AutoencoderConfig, params: Any, dtype: Any = jnp.bfloat16
) -> None:
    """Writes vae.json and vae.safetensors."""
    weights_file.save(folder / "vae.safetensors", params, dtype)
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
        config = AutoencoderConfig.from_dict(read_json(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    shapes = abstract(lambda rngs: AutoencoderKL(config, rngs=rngs))
    graphdef, variables = nnx.split(shapes)
    params = weights_file.load(Path(folder) / "vae.safetensors", nnx.to_pure_dict(variables))
    return nnx.merge(graphdef, params)


def image_batch(image: np.ndarray) -> int:
    """How many pictures of the size of one (h, w, 3) are encoded together."""
    height, width, _ = image.shape
    return max(1, min(IMAGE_BATCH, IMAGE_BATCH * 128 * 128 // (height * width)))


class Statistics:
    """Mean and standard deviation of latents per channel, over draws from their posteriors.

    Kept as sums, so that the statistics of several parts of a data set add up.
    """

    def __init__(self, channels: int):
        self.count = 0
        self.sum, self.squares = np.zeros(channels), np.zeros(channels)

    def add(self, mean: np.ndarray, logvar: np.ndarray) -> None:
        """Adds the moments (h, w, c) of one picture."""
        m, variance = mean.astype(np.float64), np.exp(logvar.astype(np.float64))
        self.count += m[..., 0].size
        self.sum += m.sum((0, 1))
        self.squares += (m**2 + variance).sum((0, 1))  # E z² = μ² + σ²

    def channels(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel."""
        mean = self.sum / self.count
        return mean, np.sqrt(self.squares / self.count - mean**2)

    def overall(self) -> tuple[float, float]:
        """Mean and standard deviation over all channels."""
        mean = self.sum.mean() / self.count
        return float(mean), float(np.sqrt(self.squares.mean() / self.count - mean**2))

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {"count": self.count, "sum": list(self.sum), "squares": list(self.squares)}

    def add_dict(self, values: Mapping[str, Any]) -> None:
        """Adds the result of `to_dict` of other statistics."""
        self.count += values["count"]
        self.sum += values["sum"]
        self.squares += values["squares"]


@functools.partial(jax.jit, static_argnums=0)
def _posterior(graphdef: nnx.GraphDef, params: Any, images: Array) -> tuple[Array, Array]:
    posterior = nnx.merge(graphdef, params).encode(from_uint8(images))
    return posterior.mean.astype(jnp.float16), posterior.logvar.astype(jnp.float16)


class Encoder:
    """Captioned pictures to the records of `data.latents`."""

    def __init__(
        self, vae: AutoencoderKL, text_encoder: Any, attributes: Sequence[str], pools: bool = False
    ):
        """Creates the encoder; nothing is compiled yet.

        Args:
            vae: encodes the pictures.
            text_encoder: a PromptEncoder, or anything with its `encode`.
            attributes: the names of the attributes in a record, in order.
            pools: whether records hold the captions' pooled vectors.
        """
        self._text_encoder, self._attributes = text_encoder, list(attributes)
        self._graphdef, self._params = nnx.split(vae)
        self._pools = pools
        self._keeps_ids = isinstance(text_encoder, StableDiffusionText)

    def moments(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (b, h, w, 3), b up to `image_batch`, to the float16 moments of their posteriors."""
        # Always full batches: one compilation per size, and results that do not depend on the
        # batch.
        missing = image_batch(images[0]) - len(images)
        padded = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
        mean, logvar = _posterior(self._graphdef, self._params, padded)
        return np.asarray(mean)[: len(images)], np.asarray(logvar)[: len(images)]

    def records(
        self,
        images: Sequence[np.ndarray],
        captions: Sequence[Sequence[str]],
        attributes: Sequence[Mapping[str, int]],
    ) -> Iterator[dict[str, np.ndarray]]:
        """The records of pictures of one size, uint8 (h, w, 3), in order."""
        texts = [caption for of_image in captions for caption in of_image]
        encoding = self._text_encoder.encode(texts)
        ids = self._text_encoder.token_ids(texts) if self._keeps_ids else None
        context = np.asarray(encoding.context)
        mask = np.ones(context.shape[:2], bool)
        if encoding.mask is not None:
            mask = np.asarray(encoding.mask)
        row, together = 0, image_batch(images[0])
        for first in range(0, len(images), together):
            means, logvars = self.moments(np.stack(images[first : first + together]))
            for i, (mean, logvar) in enumerate(zip(means, logvars, strict=True), start=first):
                rows = slice(row, row + len(captions[i]))
                row = rows.stop
                lengths = mask[rows].sum(axis=1)
                more = {}
                if self._pools:
                    more["pooled"] = np.asarray(encoding.pooled[rows], np.float16)
                if ids is not None:
                    more["ids"] = ids[rows][mask[rows]]
                yield {
                    "mean": mean,
                    "logvar": logvar,
                    "tokens": context[rows][mask[rows]].astype(np.float16),
                    "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
                    "attributes": np.array([attributes[i][n] for n in self._attributes], np.int32),
                    **more,
                }
