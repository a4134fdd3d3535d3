"""An autoencoder in overlapping tiles, so that its memory does not grow with the picture.

Each tile is encoded or decoded by itself, and neighbours fade into each other where they overlap.
Normalisations and attention see one tile at a time, so the result differs a little from that of the
whole.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dg2_jax.nn.autoencoder import Posterior
from dg2_jax.typing import Latent, Pixels

TILE = (
    64  # cells on a side: 512 pixels of Stable Diffusion, the size its autoencoder was trained at
)
OVERLAP = 16  # cells, at least


class Tiled:
    """An autoencoder whose `encode` and `decode` go tile by tile; all else is its own.

    Args:
        vae: an `AutoencoderKL`, or a `TinyAutoencoder` to decode with.
        tile: cells on a side of a tile; latents that are no larger are one tile.
        overlap: cells, at least, that neighbours have in common; below `tile`.
    """

    def __init__(self, vae: Any, tile: int = TILE, overlap: int = OVERLAP):
        self._vae, self._tile, self._overlap = vae, tile, overlap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vae, name)

    def encode(self, pixels: Pixels) -> Posterior:
        """See `AutoencoderKL.encode`."""
        grain = self._vae.downsampling_factor, 1
        moments = in_tiles(
            lambda x: jnp.concatenate(self._vae.encode(x), -1),
            pixels, self._tile, self._overlap, grain,
        )  # fmt: skip
        return Posterior(*jnp.split(moments, 2, axis=-1))

    def decode(self, latents: Latent) -> Float[Array, "b H W d"]:
        """See `AutoencoderKL.decode`."""
        grain = 1, self._vae.downsampling_factor
        return in_tiles(self._vae.decode, latents, self._tile, self._overlap, grain)


def in_tiles(
    function: Callable[[Array], Array],
    x: Float[Array, "b h w c"],
    tile: int,
    overlap: int,
    grain: tuple[int, int],
) -> Float[Array, "b H W d"]:
    """A function of pictures, one tile of one picture after the other.

    Where tiles overlap, each counts less the nearer its edge is, linearly.

    Args:
        function: (b, h, w, c) to (b, H, W, d) with the same number of cells.
        x: its argument; height and width multiples of a cell's side.
        tile: cells on a side of a tile.
        overlap: cells, at least, that neighbours have in common.
        grain: the side of a cell in the argument and in the result.
    """
    into, out = grain
    cells = [side // into for side in x.shape[1:3]]
    if max(cells) <= tile:
        return function(x)
    starts, sides = zip(*(_places(count, tile, overlap) for count in cells), strict=True)
    rows, columns = (
        jnp.asarray(_weights(at, side, count, out))
        for at, side, count in zip(starts, sides, cells, strict=True)
    )
    size = [into * side for side in sides]
    shape = jax.eval_shape(function, jax.ShapeDtypeStruct((1, *size, x.shape[3]), x.dtype))
    total = jnp.zeros((len(x), *(out * count for count in cells), shape.shape[3]), shape.dtype)
    grid = np.meshgrid(*map(np.arange, (len(x), len(starts[0]), len(starts[1]))), indexing="ij")
    tops, lefts = (jnp.asarray(at, jnp.int32) for at in starts)

    def add(total: Array, index: Array) -> tuple[Array, None]:
        picture, i, j = index
        top, left = tops[i], lefts[j]
        part = jax.lax.dynamic_slice(
            x, (picture, into * top, into * left, 0), (1, *size, x.shape[3])
        )
        weight = rows[i][None, :, None, None] * columns[j][None, None, :, None]
        made = function(part) * weight.astype(total.dtype)
        place = picture, out * top, out * left, 0
        before = jax.lax.dynamic_slice(total, place, made.shape)
        return jax.lax.dynamic_update_slice(total, before + made, place), None

    indices = jnp.asarray(np.stack([axis.ravel() for axis in grid], -1), jnp.int32)
    return jax.lax.scan(add, total, indices)[0]


def _places(cells: int, tile: int, overlap: int) -> tuple[list[int], int]:
    """The first cells of the tiles along an axis, evenly spread, and a tile's side."""
    if cells <= tile:
        return [0], cells
    last = math.ceil((cells - overlap) / (tile - overlap)) - 1
    return [round(i * (cells - tile) / last) for i in range(last + 1)], tile


def _weights(
    starts: list[int], side: int, cells: int, grain: int
) -> Float[np.ndarray, "tiles side"]:
    """How much of each entry along an axis comes from each tile; over the tiles the sum is 1."""
    centres = (np.arange(grain * cells) + 0.5) / grain
    weights = np.zeros((len(starts), len(centres)))
    for i, start in enumerate(starts):
        rises = np.ones_like(centres) if i == 0 else _share(centres, start, starts[i - 1] + side)
        falls = np.ones_like(centres)
        if i + 1 < len(starts):
            falls = 1.0 - _share(centres, starts[i + 1], start + side)
        inside = (centres > start) & (centres < start + side)
        weights[i] = inside * np.minimum(rises, falls)
    weights /= weights.sum(axis=0)
    own = (weights[i, grain * at : grain * (at + side)] for i, at in enumerate(starts))
    return np.stack([*own]).astype(np.float32)


def _share(x: np.ndarray, begin: int, end: int) -> np.ndarray:
    """0 up to `begin`, 1 from `end` on, linear between."""
    return np.clip((x - begin) / (end - begin), 0.0, 1.0)
