"""Enlarges images with Real-ESRGAN, tile by tile.

Tiles lie wholly inside the image and overlap; each output pixel comes from the tile that sees the
most around it. No tile is padded, so the network sees the image's true border exactly as it would
without tiles. All tiles of an image have the same shape, so there is one compilation, and memory
depends on `tile` and `overlap`, not on the image (besides the output itself).
"""

import functools
import itertools
import math
import numbers
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from PIL import Image

from dg2_jax.interop import upscaler_files
from dg2_jax.nn.network import Network

Upscaler = Any  # `dg2_jax.nn.rrdbnet.RRDBNet` or `SRVGGNetCompact`

_MIN_TILE = 16
_ROUND_TILE = 16  # tile sides are rounded up to it, so that few shapes are compiled
MAX_SCALE = 8


def upscale(
    images: np.ndarray | jax.Array,
    model: str | Path | Upscaler = "x4plus",
    scale: int | float = 4,
    *,
    tile: int = 224,
    overlap: int = 32,
    progress: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """Enlarges RGB images.

    The network enlarges by its own factor (2 for x2plus, 4 for the other named models); for any
    other `scale` the result is resized with a Lanczos filter. With 1 the network cleans the image
    and its size stays.

    Args:
        images: uint8, (height, width, 3) or (n, height, width, 3).
        model: "x4plus" (photographs), "x4plus-anime", "animevideov3" (small and fast), "x2plus"
            (photographs, by 2), the path of a `.param` or `.pth` file, or a network of
            `dg2_jax.interop.realesrgan.load`.
        scale: output size over input size, from 1 to 8; sides are rounded to whole pixels.
        tile: side, in input pixels, of what one run of the network yields; at least 16. Memory
            grows with its square; the default needs about 1 GB with x4plus.
        overlap: input pixels that a run also sees beyond each cut, at least 0. The networks see
            far: next to a cut, x4plus differs from a run on the whole image by 0.6, 0.3 and 0.07
            grey levels on average with an overlap of 16, 32 and 48 (measured on one photograph).
        progress: called as `progress(done, total)` after every tile of the whole call.

    Returns:
        uint8, with the rank of `images`: (round(height·scale), round(width·scale), 3) per image.

    Raises:
        ValueError: an argument outside the stated ranges, or weights that do not fit.
        FileNotFoundError: the model's file is missing.

    Example:
        >>> upscale(np.zeros((8, 6, 3), np.uint8), "animevideov3", scale=2).shape
        (16, 12, 3)
    """
    from dg2_jax.nn import modules  # late: it imports Flax

    batch = _as_batch(images)
    scale, tile, overlap = _checked(scale, tile, overlap)
    network = _network(model)
    structure, params = modules.split(network)
    unit = network.unshuffle  # sides, tiles and their corners are multiples of it
    n, height, width, _ = batch.shape
    rows = tile_spans(-(-height // unit), tile // unit, -(-overlap // unit))
    cols = tile_spans(-(-width // unit), tile // unit, -(-overlap // unit))
    total = n * len(rows) * len(cols)

    size = round(height * scale), round(width * scale)
    out = np.empty((n, *size, 3), np.uint8)
    done = 0
    for i, image in enumerate(batch):
        image = np.pad(image, ((0, -height % unit), (0, -width % unit), (0, 0)), mode="edge")
        big = np.empty((*(network.scale * s for s in image.shape[:2]), 3), np.uint8)
        for top, bottom, y0, y1 in np.multiply(rows, unit):
            for left, right, x0, x1 in np.multiply(cols, unit):
                seen = image[None, top:bottom, left:right]
                output = np.asarray(_enlarge(structure, params, seen))[0]
                r = network.scale
                big[y0 * r : y1 * r, x0 * r : x1 * r] = output[
                    (y0 - top) * r : (y1 - top) * r, (x0 - left) * r : (x1 - left) * r
                ]
                done += 1
                if progress is not None:
                    progress(done, total)
        out[i] = _resize(big[: height * network.scale, : width * network.scale], size)
    return out if np.ndim(images) == 4 else out[0]


def tile_spans(length: int, tile: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Cuts a side into tiles of equal size.

    Returns:
        (start, end, first, last) for every tile: the span it sees, and the part of it that is kept,
        both half-open. The kept parts follow each other from 0 to `length`; cuts are in the middle
        of what two neighbours share, at least `overlap` from the end of either.

        >>> tile_spans(100, tile=64, overlap=8)
        [(0, 64, 0, 50), (36, 100, 50, 100)]
    """
    count = max(1, math.ceil((length - 2 * overlap) / tile))
    if count == 1:
        return [(0, length, 0, length)]
    fair = math.ceil((length + (count - 1) * 2 * overlap) / count)
    size = min(tile + 2 * overlap, -(-fair // _ROUND_TILE) * _ROUND_TILE)
    starts = [i * (length - size) // (count - 1) for i in range(count)]
    cuts = [(a + size + b) // 2 for a, b in itertools.pairwise(starts)]
    return [
        (start, start + size, first, last)
        for start, first, last in zip(starts, [0, *cuts], [*cuts, length], strict=True)
    ]


@functools.partial(jax.jit, static_argnums=0)
def _enlarge(structure: Network, params: PyTree, image: jax.Array) -> jax.Array:
    y = structure.bind(params)(image.astype(jnp.float32) / 255)
    return jnp.round(jnp.clip(y, 0, 1) * 255).astype(jnp.uint8)


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))


def _network(model: str | Path | Upscaler) -> Upscaler:
    from dg2_jax.nn.rrdbnet import RRDBNet, SRVGGNetCompact  # late: it imports Flax

    if isinstance(model, RRDBNet | SRVGGNetCompact):
        return model
    if not isinstance(model, str | Path):
        raise ValueError(f"model must be a name, a path or a loaded network, got {model!r}")
    path = upscaler_files.find_weights(model)
    return _load(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _load(path: Path, changed: int) -> Upscaler:
    """`changed`, the file's modification time, reloads an edited file."""
    from dg2_jax.interop import realesrgan  # late: it imports Flax

    return realesrgan.load(path)


def _as_batch(images: np.ndarray | jax.Array) -> np.ndarray:
    array = np.asarray(images)
    if array.dtype != np.uint8:
        raise ValueError(f"images must be uint8 (0-255), got {array.dtype}")
    if array.ndim not in (3, 4) or array.shape[-1] != 3 or 0 in array.shape:
        raise ValueError(
            "images must have the shape (height, width, 3) or (n, height, width, 3), no side "
            f"empty, got {array.shape}"
        )
    return array if array.ndim == 4 else array[None]


def _checked(scale: int | float, tile: int, overlap: int) -> tuple[float, int, int]:
    if not isinstance(scale, numbers.Real) or not 1 <= scale <= MAX_SCALE:
        raise ValueError(f"scale must be a number from 1 to {MAX_SCALE}, got {scale!r}")
    for name, value, least in (("tile", tile, _MIN_TILE), ("overlap", overlap, 0)):
        if not isinstance(value, numbers.Integral) or value < least:
            raise ValueError(f"{name} must be a whole number, at least {least}, got {value!r}")
    return float(scale), int(tile), int(overlap)
