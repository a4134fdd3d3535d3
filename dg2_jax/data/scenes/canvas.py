"""The canvas that the parts of a picture are painted on, back to front."""

import numpy as np

from dg2_jax.data.scenes.attributes import Scene
from dg2_jax.data.scenes.noise import mix
from dg2_jax.data.scenes.palette import light_of, plants_of


class Canvas:
    """A square picture in progress with its light, coordinates and source of randomness.

    Attributes:
      image: float32 (3, n, n) in [0, 1], painted in place.
      x: (1, n), 0 at the left and 1 at the right.
      y: (n, 1), 0 at the top and 1 at the bottom.
      sun: (x, y) of the sun or moon.
      horizon: y of the horizon.
    """

    def __init__(self, scene: Scene, rng: np.random.Generator, n: int):
        self.scene, self.rng, self.n = scene, rng, n
        self.light, self.plants = light_of(scene, rng), plants_of(scene, rng)
        centres = (np.arange(n, dtype=np.float32) + 0.5) / n
        self.x, self.y = centres[None, :], centres[:, None]
        self.image = np.zeros((3, n, n), np.float32)
        self.horizon = 0.6
        self.sun = (0.3, 0.2)

    @property
    def side(self) -> int:
        """+1 where the light comes from the right, -1 from the left."""
        return 1 if self.sun[0] > 0.5 else -1

    def colour(self, albedo: np.ndarray, lit: float = 0.5, depth: float = 0.0) -> np.ndarray:
        """The colour (3,) of a surface, `lit` in [0, 1] by the sun and seen through `depth` of air.

        Depth 0 is at the eye and 1 at the farthest ridge.
        """
        light = self.light
        surface = np.minimum(albedo * (light.ambient + lit * light.sun), 1)
        return mix(surface, light.haze, 1 - np.exp(-light.fog * depth))

    def over(self, mask, colour, row: int = 0, column: int = 0) -> None:
        """Blends a colour, (3,) or (3, h, w), with the opacity mask (h, w) at a corner."""
        h, w = mask.shape
        part = self.image[:, row : row + h, column : column + w]
        part += mask * ((colour[:, None, None] if colour.ndim == 1 else colour) - part)

    def glow(self, mask, colour, row: int = 0, column: int = 0) -> None:
        """Adds light (3,) with the strength mask (h, w) by the screen mode: 1 - (1 - a)(1 - b)."""
        h, w = mask.shape
        part = self.image[:, row : row + h, column : column + w]
        part += np.clip(mask, 0, 1) * colour[:, None, None] * (1 - part)

    def edge(self, distance: np.ndarray) -> np.ndarray:
        """Antialiased coverage in [0, 1] of where a distance, in picture widths, is positive."""
        return np.clip(distance * self.n + 0.5, 0, 1)

    def below(self, top: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        """Where the picture lies below a profile.

        Returns:
          The first row concerned; the coverage (h, n) from that row down; the depth y - top (h, n).
        """
        row = int(np.clip(np.min(top) * self.n - 1, 0, self.n - 1))
        depth = self.y[row:] - np.asarray(top, np.float32)
        return row, self.edge(depth), depth

    def box(self, left, top, right, bottom) -> tuple[int, int, np.ndarray, np.ndarray]:
        """The part of the picture within bounds: its row and column, and its x and y arrays."""
        column, last = (int(np.clip(v * self.n, 0, self.n)) for v in (left, right + 2 / self.n))
        row, bottom_row = (int(np.clip(v * self.n, 0, self.n)) for v in (top, bottom + 2 / self.n))
        return row, column, self.x[:, column:last], self.y[row:bottom_row]
