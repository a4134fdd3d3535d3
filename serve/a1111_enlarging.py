"""Enlarging as A1111 clients ask for it: to any size, by a network or a filter."""

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

from PIL import Image, ImageOps

from dg2_jax.serve import a1111_names, pictures
from dg2_jax.serve.context import Context
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.sizes import Size


class Enlarging(NamedTuple):
    """Pictures brought to a size.

    Attributes:
        size: width and height in pixels.
        upscaler: its name as the client wrote it.
    """

    size: Size
    upscaler: str

    def check(self, context: Context, field: str) -> None:
        """Raises ProblemError, 422 naming the field, where the result is too large or empty."""
        most, (width, height) = context.settings.max_pixels, self.size
        if not 0 < width * height <= most:
            raise ProblemError(
                422, f"the result must have 1 to {most} pixels, not {width}x{height}", field
            )

    def network_factor(self, size: Size) -> int | None:
        """The factor of a network on the way there; None where pictures become smaller."""
        factor = max(self.size[0] / size[0], self.size[1] / size[1])
        if factor < 1:
            return None
        return 1 if factor == 1 else 2 if factor <= 2 else 4

    def fit(self, picture: Image.Image) -> Image.Image:
        """A picture at the size, undistorted; what is beyond it is cut evenly."""
        if picture.size == self.size:
            return picture
        nearest = self.upscaler == "Nearest"
        method = Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS
        return ImageOps.fit(picture, self.size, method)

    def finish(self, png: bytes, metadata: Mapping[str, Any]) -> bytes:
        """The same of a stored picture, with the settings that it carries."""
        picture = Image.open(io.BytesIO(png))
        if picture.size == self.size:
            return png
        return pictures.encode(self.fit(picture), metadata)


def network_of(name: str, field: str) -> str | None:
    """The network of an upscaler's name, None for a filter.

    Raises:
        ProblemError: 404 naming the field.
    """
    try:
        return a1111_names.upscaler(name)
    except KeyError:
        raise ProblemError(404, f"Upscaler not found: {name!r}; see upscalers", field) from None
