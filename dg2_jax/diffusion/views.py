"""The views of visual anagrams: orthogonal maps of a picture, each with its inverse.

A view permutes the cells of a picture or flips its sign. So it preserves lengths, and Gaussian
noise stays Gaussian noise (Geng et al., Visual Anagrams, arXiv 2311.17919). Maps are data: a
compiled program is told its view when it is called.

A name means the same map of a latent and of the pixels it stands for: enlarging by repetition and
then viewing equals viewing and then enlarging. To ensure that, the views that cut up a picture are
defined on a board of `cells` × `cells` squares. They and the quarter turns need a square picture.
"""

import math
import random
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, UInt8

VIEWS = (
    "identity",
    "rot90",
    "rot180",
    "rot270",
    "flip_horizontal",
    "flip_vertical",
    "negate",
    "jigsaw",
    "patch_permutation",
    "inner_circle",
    "skew",
)

ANY_SHAPE = ("identity", "rot180", "flip_horizontal", "flip_vertical", "negate")
CELLS = 16  # of the board's side, the embedded model's latent
_SEEDS = {"jigsaw": 8, "patch_permutation": 5}


class ViewMap(NamedTuple):
    """A view of (height, width) pictures, row-major: v(x)ᵢ = sign · x[indexᵢ].

    Attributes:
        index: int32 (height · width,), the source of each place of the view.
        inverse: int32 (height · width,), the inverse permutation.
        sign: float32, 1 or -1.
    """

    index: Int[Array | np.ndarray, " n"]  # type: ignore[assignment]  # hides tuple.index
    inverse: Int[Array | np.ndarray, " n"]
    sign: Float[Array | np.generic, ""]


def make(
    name: str, height: int, width: int | None = None, *, patches: int = 4, cells: int | None = None
) -> ViewMap:
    """The map of a view.

    The rotations are counter-clockwise; "flip_horizontal" exchanges left and right; "negate" turns
    the sign; "patch_permutation" and "jigsaw" move square pieces, the latter with quarter turns
    that keep the picture's border on the border; "inner_circle" turns a disc of three quarters of
    the width by 180 degrees; "skew" rolls each column of the board by its distance from the middle
    one.

    Args:
        name: one of VIEWS.
        height: of the picture, in pixels or latent cells.
        width: None for a square; only views of ANY_SHAPE take a width other than `height`.
        patches: pieces per side, for the views that move pieces.
        cells: squares per side of the board of "inner_circle" and "skew"; None for the greatest
            common divisor of the side and CELLS. If a latent is smaller than CELLS, give its side
            to the maps of both the latent and its pixels.

    Returns:
        The map, as NumPy arrays.

    Raises:
        ValueError: an unknown name, one that needs a square, or a side that the board or the
            pieces do not divide.
    """
    side, width = height, height if width is None else width
    if name not in VIEWS:
        raise ValueError(f"view must be one of {', '.join(VIEWS)}; got {name!r}")
    if min(height, width) < 1:
        raise ValueError(f"height and width must be at least 1, got {height} and {width}")
    if height != width and name not in ANY_SHAPE:
        raise ValueError(
            f"view {name!r} needs a square, got {height} rows and {width} columns; "
            f"views of any shape are {', '.join(ANY_SHAPE)}"
        )
    grid = np.arange(height * width, dtype=np.int32).reshape(height, width)
    if name in ("jigsaw", "patch_permutation"):
        if patches < 2 or side % patches:
            raise ValueError(
                f"patches must be at least 2 and divide the side of view {name!r}; "
                f"got {patches} and {side}"
            )
        index = _move_pieces(grid, patches, name)
    elif name in ("inner_circle", "skew"):
        cells = math.gcd(side, CELLS) if cells is None else cells
        if cells < 1 or side % cells:
            raise ValueError(f"cells must divide the side of view {name!r}; got {cells} and {side}")
        index = _inner_circle(grid, cells) if name == "inner_circle" else _skew(grid, cells)
    else:
        index = {
            "identity": grid,
            "negate": grid,
            "rot90": np.rot90(grid),
            "rot180": np.rot90(grid, 2),
            "rot270": np.rot90(grid, 3),
            "flip_horizontal": grid[:, ::-1],
            "flip_vertical": grid[::-1],
        }[name]
    index = np.ascontiguousarray(index).reshape(-1)
    inverse = np.argsort(index).astype(np.int32)
    return ViewMap(index, inverse, np.float32(-1.0 if name == "negate" else 1.0))


def apply(x: Float[Array, "b h w c"], view: ViewMap) -> Float[Array, "b h w c"]:
    """The view v(x) of pictures or latents centred on 0; pure JAX."""
    return _permute(x, view.index) * view.sign


def invert(x: Float[Array, "b h w c"], view: ViewMap) -> Float[Array, "b h w c"]:
    """Undoes `apply`, exactly: the inverse of an orthogonal map is its transpose."""
    return _permute(x, view.inverse) * view.sign


def apply_to_images(
    images: UInt8[np.ndarray, "b h w c"], name: str, **board: int
) -> UInt8[np.ndarray, "b h w c"]:
    """Finished pictures seen in a view; "negate" is 255 - x.

    Args:
        images: pictures, 0-255.
        name: one of VIEWS.
        board: `patches` and `cells` of `make`.

    Raises:
        ValueError: as `make` does.
    """
    view = make(name, *images.shape[1:3], **board)
    turned = _permute(images, view.index)
    return 255 - turned if name == "negate" else turned


def _permute(x, index):
    b, h, w, c = x.shape
    return x.reshape(b, h * w, c)[:, index].reshape(b, h, w, c)


def _shuffle(count: int, generator: random.Random) -> list[int]:
    # Of Python's and NumPy's generators, only random() keeps its stream in every version.
    return np.argsort([generator.random() for _ in range(count)]).tolist()


def _move_pieces(grid: np.ndarray, patches: int, name: str) -> np.ndarray:
    generator = random.Random(_SEEDS[name])
    size = len(grid) // patches
    pieces = grid.reshape(patches, size, patches, size).swapaxes(1, 2)
    moved = pieces.copy()
    if name == "patch_permutation":
        order = _shuffle(patches * patches, generator)
        moved = pieces.reshape(-1, size, size)[order].reshape(pieces.shape)
    else:
        for target, source, turns in _jigsaw_moves(patches, generator):
            moved[target] = np.rot90(pieces[source], turns)
    return moved.swapaxes(1, 2).reshape(grid.shape)


def _jigsaw_moves(
    patches: int, generator: random.Random
) -> list[tuple[tuple[int, int], tuple[int, int], int]]:
    """(target, source, counter-clockwise quarter turns) of each place of the jigsaw.

    The places on the border are (side, step), clockwise, with the corners at step 0. A clockwise
    quarter turn of the picture takes (side, step) to (side + 1, step), hence the turns below.
    """
    last = patches - 1

    def place(side: int, step: int) -> tuple[int, int]:
        return ((0, step), (step, last), (last, last - step), (last - step, 0))[side]

    corners = [(side, 0) for side in range(4)]
    edges = [(side, step) for side in range(4) for step in range(1, last)]
    moves = []
    for group in (corners, edges):
        for target, i in zip(group, _shuffle(len(group), generator), strict=True):
            source = group[i]
            moves.append((place(*target), place(*source), source[0] - target[0]))
    inner = [(row, column) for row in range(1, last) for column in range(1, last)]
    for target, i in zip(inner, _shuffle(len(inner), generator), strict=True):
        moves.append((target, inner[i], int(4 * generator.random())))
    return moves


def _inner_circle(grid: np.ndarray, cells: int) -> np.ndarray:
    centres = np.arange(cells) + 0.5 - cells / 2
    inside = np.hypot(centres[:, None], centres) <= 3 / 8 * cells
    scale = len(grid) // cells
    return np.where(inside.repeat(scale, 0).repeat(scale, 1), np.rot90(grid, 2), grid)


def _skew(grid: np.ndarray, cells: int) -> np.ndarray:
    scale = len(grid) // cells
    shifts = (np.arange(len(grid)) // scale - cells // 2) * scale
    rows = (np.arange(len(grid))[:, None] - shifts) % len(grid)
    return np.take_along_axis(grid, rows, 0)
