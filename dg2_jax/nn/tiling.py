"""Large images through an autoencoder tile by tile: the network's memory is that of one tile."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Map = Float[Array, "b _ _ _"]  # (batch, height, width, channels)


def tiled(fn: Callable[[Array], Array], x: Map, tile: int, overlap: int) -> Map:
    """Applies `fn` to overlapping tiles of `x` and blends the results linearly where they overlap.

    Equal to `fn(x)` where an output pixel of `fn` depends on nothing beyond its tile; an
    autoencoder's GroupNorm and attention see a tile where they saw the image, which shows as a
    slight change of tone that the overlap hides. All tiles have one shape: a jitted `fn` compiles
    once. Decoding, and encoding to moments:

        pixels = tiled(vae.decode, latents, tile=64, overlap=16)
        mean = tiled(lambda x: vae.encode(x).mode(), pixels, tile=512, overlap=128)

    Args:
        fn: maps (b, h, w, c) to (b, s*h, s*w, d) for some ratio s, such as 8 or 1/8.
        x: the whole input, such as latents.
        tile: height and width of a tile, in cells of `x`; a smaller `x` is one tile.
        overlap: of neighbouring tiles, in cells of `x`; at least 0 and less than `tile`.

    Raises:
        ValueError: for a bad tile or overlap, or where s times a tile's position is no integer.
    """
    if tile < 1:
        raise ValueError(f"tile must be at least 1, got {tile}")
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap must be at least 0 and less than tile ({tile}), got {overlap}")
    batch, height, width, channels = x.shape
    tile_h, tile_w = min(tile, height), min(tile, width)
    sums: tuple[Array, Array] | None = None
    for top in _starts(height, tile_h, overlap):
        for left in _starts(width, tile_w, overlap):
            window = jax.lax.dynamic_slice(x, (0, top, left, 0), (batch, tile_h, tile_w, channels))
            part = fn(window)
            rows = _Axis(tile_h, part.shape[1])
            columns = _Axis(tile_w, part.shape[2])
            weight = jnp.outer(rows.ramp(overlap), columns.ramp(overlap))[None, :, :, None]
            weight = weight.astype(part.dtype)
            if sums is None:
                shape = (rows.out(height), columns.out(width))
                total = jnp.zeros((batch, *shape, part.shape[-1]), part.dtype)
                sums = total, jnp.zeros((1, *shape, 1), part.dtype)
            corner = rows.out(top), columns.out(left)
            sums = _add(sums[0], part * weight, *corner), _add(sums[1], weight, *corner)
    assert sums is not None  # there is at least one tile
    return sums[0] / sums[1]


@partial(jax.jit, donate_argnums=0)
def _add(total: Map, part: Map, top: int | Array, left: int | Array) -> Map:
    """`total` with `part` added at a corner; traced positions, so that it compiles once."""
    start = (0, top, left, 0)
    present = jax.lax.dynamic_slice(total, start, part.shape)
    return jax.lax.dynamic_update_slice(total, present + part, start)


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """First cells of the tiles along one axis; the last tile ends with the axis."""
    return [*range(0, size - tile, max(tile - overlap, 1)), size - tile]


class _Axis(NamedTuple):
    """One axis of a tile: its cells in the input and in the output."""

    tile: int
    tile_out: int

    def out(self, cells: int) -> int:
        """`cells` of the input, in cells of the output."""
        if cells * self.tile_out % self.tile:
            raise ValueError(
                "tile, overlap and image size must be whole cells of the output, "
                f"got {cells} cells where {self.tile} become {self.tile_out}"
            )
        return cells * self.tile_out // self.tile

    def ramp(self, overlap: int) -> Float[Array, " _"]:
        """Weights along the axis: up over `overlap` cells, 1, and down again."""
        x = jnp.arange(self.tile_out) + 0.5
        return jnp.minimum(1.0, jnp.minimum(x, self.tile_out - x) / max(self.out(overlap), 0.5))
