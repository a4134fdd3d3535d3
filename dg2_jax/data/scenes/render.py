"""Renders the pictures of `dg2_scenes`: illustrated landscapes, from a `Scene` and a seed."""

import numpy as np

from dg2_jax.data.scenes import attributes
from dg2_jax.data.scenes.attributes import Scene
from dg2_jax.data.scenes.canvas import Canvas
from dg2_jax.data.scenes.sampling import is_mirrored
from dg2_jax.data.scenes.sky import paint_sky, paint_weather, place_sun
from dg2_jax.data.scenes.subjects import HORIZONS, PAINTERS

VERSION = "2.0.0"  # of the pictures: raised by any change that alters a pixel

_SUPERSAMPLING = 2
_ALLOWED = {
    "subject": attributes.SUBJECTS,
    "time": attributes.TIMES,
    "weather": attributes.WEATHERS,
    "season": attributes.SEASONS,
}


def render(scene: Scene, seed: int, size: int = 256) -> np.ndarray:
    """Paints a scene; a function of its arguments alone.

    The seed chooses the composition, the shapes and the jitter of the palette.

    Args:
      scene: what to show.
      seed: at least 0.
      size: height and width in pixels, at least 16.

    Returns:
      uint8 (size, size, 3), sRGB.

    Raises:
      ValueError: an attribute, the seed or the size is not allowed.
    """
    for name, allowed in _ALLOWED.items():
        if getattr(scene, name) not in allowed:
            raise ValueError(
                f"{name} must be one of {', '.join(allowed)}; got {getattr(scene, name)!r}"
            )
    if seed < 0:
        raise ValueError(f"seed must be at least 0; got {seed}")
    if size < 16:
        raise ValueError(f"size must be at least 16; got {size}")
    canvas = Canvas(scene, np.random.default_rng(seed), size * _SUPERSAMPLING)
    canvas.horizon = canvas.rng.uniform(*HORIZONS[scene.subject])
    place_sun(canvas)
    paint_sky(canvas)
    PAINTERS[scene.subject](canvas)
    paint_weather(canvas)
    image = canvas.image[:, :, ::-1] if is_mirrored(seed) else canvas.image
    k = _SUPERSAMPLING
    image = image.reshape(3, size, k, size, k).mean((2, 4)).transpose(1, 2, 0)
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def contact_sheet(images, columns: int) -> np.ndarray:
    """Puts equal images (h, w, 3) side by side, row by row, on black where the last row ends early.

    Returns:
      uint8 (rows * h, columns * w, 3).

    Raises:
      ValueError: there is no image, or columns is below 1.
    """
    images = list(images)
    if not images or columns < 1:
        raise ValueError(
            f"contact_sheet needs images and columns of at least 1; got {len(images)} images, "
            f"columns {columns}"
        )
    h, w, _ = images[0].shape
    rows = -(-len(images) // columns)
    sheet = np.zeros((rows, columns, h, w, 3), np.uint8)
    for i, image in enumerate(images):
        sheet[divmod(i, columns)] = image
    return sheet.transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, 3)
