"""Dead leaves: random overlapping shapes, with the image statistics of photographs.

Shapes of all sizes cover one another at random. Such a picture has the edges and the spectrum of a
natural one (Lee, Mumford and Huang, 2001), and networks that learn from them do well on photographs
(Baradad et al., arXiv 2106.05963). Here they teach the autoencoder what the illustrated landscapes
lack, without any photographs.
"""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFilter

from dg2_jax.data.loader import Example, Source
from dg2_jax.data.scenes.noise import fbm

_COUNT = 240  # leaves per picture
_SMALLEST, _LARGEST = 0.015, 0.7  # radii, as shares of the picture's side; their density is r⁻²
_CORNERS = (3, 4, 4, 5, 6, 40, 40)  # of a leaf; 40 is a disc
_OVERSAMPLING = 2
_TEXTURES = 2


class DeadLeaves:
    """A source of `count` pictures, {"image": uint8 (size, size, 3)}."""

    def __init__(self, count: int, size: int, seed: int = 0):
        """Makes the source; picture i is a function of (seed, i) and the size.

        Raises:
            ValueError: count is below 0, or size below 16.
        """
        if count < 0 or size < 16:
            raise ValueError(f"count must be at least 0 and size 16, got {count} and {size}")
        self._count, self._size, self._seed = count, size, seed

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Draws picture `index`."""
        return {"image": draw(np.random.default_rng((self._seed, int(index))), self._size)}


class Both:
    """Two sources, one after the other."""

    def __init__(self, first: Source, second: Source):
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, index: int) -> Example:
        """The example at `index`; those of the second source come after the first's."""
        here = index < len(self._first)
        return self._first[index] if here else self._second[index - len(self._first)]


def draw(rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """One picture: leaves with plain or noisy faces, shaded, some out of focus."""
    side = size * _OVERSAMPLING
    ids = Image.new("I", (side, side), 0)
    canvas = ImageDraw.Draw(ids)
    for leaf, outline in enumerate(_outlines(rng, side), 1):
        canvas.polygon(outline, fill=leaf)
    which = np.asarray(ids)
    colours = _palette(rng)
    steps = np.linspace(0.0, 1.0, side, dtype=np.float32)
    texture = np.zeros((side, side), np.float32)
    kind = rng.integers(0, _TEXTURES, _COUNT + 1)[which]
    for k in range(_TEXTURES):
        stretch = rng.uniform(4, 40, 2)
        noise = fbm(rng, steps * stretch[0], steps * stretch[1], octaves=3, gain=0.6)
        texture = np.where(kind == k, noise, texture)
    roughness = (0.3 * rng.random(_COUNT + 1, np.float32) ** 3)[which]
    slope = rng.normal(0.0, 0.3, (2, _COUNT + 1)).astype(np.float32)
    light = slope[0][which] * (steps[:, None] - 0.5) + slope[1][which] * (steps[None, :] - 0.5)
    picture = colours[which] * (1.0 + light + roughness * texture)[..., None]
    image = Image.fromarray((255.0 * np.clip(picture, 0.0, 1.0)).astype(np.uint8))
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3.0)))
    return np.asarray(image.reduce(_OVERSAMPLING))


def _outlines(rng: np.random.Generator, side: int) -> list[list[tuple[float, float]]]:
    """The corners of the leaves: anywhere, turned and stretched."""
    inverse = rng.uniform(1 / _LARGEST, 1 / _SMALLEST, _COUNT)
    centre, turn = rng.uniform(0, side, (_COUNT, 2)), rng.uniform(0, 2 * np.pi, (_COUNT, 2))
    stretch = rng.uniform(0.2, 1.0, _COUNT)
    outlines = []
    for i, corners in enumerate(rng.choice(_CORNERS, _COUNT)):
        angle = turn[i, 0] + np.arange(corners) * (2 * np.pi / corners)
        x, y = np.cos(angle), stretch[i] * np.sin(angle)
        c, s = np.cos(turn[i, 1]), np.sin(turn[i, 1])
        corner = centre[i] + side / inverse[i] * np.stack([c * x - s * y, s * x + c * y], 1)
        outlines.append([tuple(place) for place in corner.tolist()])
    return outlines


def _palette(rng: np.random.Generator) -> np.ndarray:
    """Colours in [0, 1], float32 (leaves, 3): a few hues per picture, more grey than bright."""
    hues = rng.random(int(rng.integers(2, 7)))
    hue = rng.choice(hues, _COUNT + 1) + rng.normal(0.0, 0.04, _COUNT + 1)
    saturation = rng.beta(1.2, 2.5, _COUNT + 1)
    value = rng.beta(1.0, 1.1, _COUNT + 1)
    phase = (hue[:, None] + np.array([0.0, 1 / 3, 2 / 3])) * (2 * np.pi)
    tint = 0.5 + 0.5 * np.cos(phase)
    return (value[:, None] * (1.0 - saturation[:, None] * (1.0 - tint))).astype(np.float32)
