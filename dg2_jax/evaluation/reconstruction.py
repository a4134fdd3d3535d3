"""How well a model's autoencoder reconstructs pictures, and how equivariant it is."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from dg2_jax.evaluation.metrics import equivariance_error, gradient_energy, psnr, ssim
from dg2_jax.models.model import Model
from dg2_jax.pictures.images import from_uint8

_BATCH = 16
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def quality(model: Model, images: UInt8[np.ndarray, "n h w 3"]) -> dict[str, float]:
    """Mean `psnr` (dB), mean `ssim` and `sharpness` of decoded posterior means."""

    @jax.jit
    def measure(params, images):
        vae, pixels = model.autoencoder.bind(params), from_uint8(images)
        rebuilt = jnp.clip(vae.decode(vae.encode(pixels).mode()), -1.0, 1.0)
        energies = gradient_energy(rebuilt), gradient_energy(pixels)
        return psnr(rebuilt, pixels), ssim(rebuilt, pixels), *energies

    starts = range(0, len(images), _BATCH)
    values = [measure(model.autoencoder_params, images[i : i + _BATCH]) for i in starts]
    decibels, similarity, decoded, true = (
        float(np.concatenate(column).mean()) for column in zip(*values, strict=True)
    )
    return {"psnr": decibels, "ssim": similarity, "sharpness": decoded / true}


def half_turn_error(model: Model, images: UInt8[np.ndarray, "n h w 3"]) -> float:
    """e(rot180), see `evaluation.metrics.equivariance_error`."""
    vae = model.autoencoder.bind(model.autoencoder_params)
    return float(equivariance_error(vae, from_uint8(images), lambda x: x[:, ::-1, ::-1]))


def photographs(folder: str | Path, size: int) -> UInt8[np.ndarray, "n {size} {size} 3"]:
    """The pictures of a folder, by name, each cut to its middle square and scaled to `size`.

    Raises:
        ValueError: there are none.
    """
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in _SUFFIXES)
    if not paths:
        raise ValueError(
            f"photos must be a folder with pictures ({', '.join(_SUFFIXES)}): {folder}"
        )
    square = (size, size)
    pictures = [ImageOps.exif_transpose(Image.open(p)).convert("RGB") for p in paths]
    fitted = [ImageOps.fit(p, square, Image.Resampling.LANCZOS) for p in pictures]
    return np.stack([np.asarray(p) for p in fitted])
