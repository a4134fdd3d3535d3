"""In-painting of a part of a large photograph: the region that is worked on, out of it and back.

The region around the mask is resized to what the model makes, repainted, resized back, and laid
into the photograph, which stays as it is everywhere else.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from dg2_jax.checks import ParameterError
from dg2_jax.pictures import image_input, masks
from dg2_jax.pictures.image_input import LANCZOS, ImageSource
from dg2_jax.pictures.masks import Mask
from dg2_jax.pictures.upscaling import MAX_SCALE, upscale


class Box(NamedTuple):
    """A rectangle of whole pixels; right and bottom are the first that do not belong to it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of an array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def around(mask: Mask, padding: int, aspect: tuple[int, int]) -> Box:
    """The smallest box that holds all of a mask with padding and has an aspect, inside the picture.

    It is centred on the mask as far as the picture's borders allow. Where the picture is too narrow
    or too low for the aspect, the box takes all of that side.

    Args:
        mask: of the picture's pixels; above 0 somewhere.
        padding: pixels around what is above 0, as far as there are any; at least 0.
        aspect: (width, height), in any unit.
    """
    sides = []
    for axis, size in ((0, mask.shape[1]), (1, mask.shape[0])):
        marked = np.flatnonzero((mask > 0).any(axis))
        sides.append((max(0, marked[0] - padding), min(size, marked[-1] + 1 + padding), size))
    width, height = (end - start for start, end, _ in sides)
    wanted = math.ceil(height * aspect[0] / aspect[1]), math.ceil(width * aspect[1] / aspect[0])
    spans = []
    for (start, end, size), length in zip(sides, wanted, strict=True):
        length = min(size, max(end - start, length))
        first = (start + end - length) // 2
        first = min(max(first, 0), size - length)
        spans.append((int(first), int(first + length)))
    (left, right), (top, bottom) = spans
    return Box(left, top, right, bottom)


@dataclass(frozen=True)
class Region:
    """A part of a photograph, at the size at which it is worked on.

    Attributes:
        photograph: uint8 (H, W, 3), all of it.
        box: the region.
        mask: float32, of the region's own pixels, 1 where it is repainted.
        inner: where the region lies in what the model makes; all of it, unless the photograph is
            too narrow or too low for the aspect.
        pixels: uint8 (h, w, 3), the region at the size that the model makes.
        fitted_mask: float32 (h, w), its mask.
    """

    photograph: UInt8[np.ndarray, "H W 3"]
    box: Box
    mask: Float[np.ndarray, "rows columns"]
    inner: Box
    pixels: UInt8[np.ndarray, "h w 3"]
    fitted_mask: Mask

    def paste(
        self, repainted: UInt8[np.ndarray, "h w 3"], feather_px: float, upscaler: str
    ) -> UInt8[np.ndarray, "H W 3"]:
        """The photograph with the repainted region in it.

        Args:
            repainted: the region as the model made it.
            feather_px: of `masks.paste_back`, in pixels of the photograph.
            upscaler: what enlarges the region where it is larger than what the model makes:
                "lanczos", or a model of `dg2_jax.upscale`.
        """
        made = _resized(repainted[self.inner.slices], self.box.size, upscaler)
        whole = self.photograph.copy()
        part = whole[self.box.slices]
        whole[self.box.slices] = masks.paste_back(made, part, self.mask, feather_px)
        return whole


def load(
    image: ImageSource, mask: ImageSource, width: int, height: int, padding: int, feather_px: float
) -> Region:
    """The region of a photograph around its mask.

    Args:
        image: as for `image_input.load_image`.
        mask: as for `masks.load_pair`.
        width: that the model makes.
        height: that the model makes.
        padding: least pixels of the photograph around the mask.
        feather_px: pixels of the photograph over which the mask fades; there is room for them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not such pictures.
        ParameterError: `mask` has another shape than the photograph, or marks nothing.
    """
    photograph, values = masks.load_whole(image, mask)
    box = around(values, max(padding, math.ceil(feather_px)), (width, height))
    part, mask_part = photograph[box.slices], values[box.slices]
    placement = image_input.fit(box.size, (width, height), "pad")
    return Region(
        photograph=photograph,
        box=box,
        mask=mask_part,
        inner=Box(*placement.inner),
        pixels=image_input.load_image(part, width, height, "pad"),
        fitted_mask=masks.load_mask(mask_part, width, height, "pad"),
    )


def check_enlarged(region: Region, scale: int | None) -> None:
    """Raises ParameterError where the finished photograph, enlarged by `scale`, is too large."""
    height, width = region.photograph.shape[:2]
    if scale is not None and width * height * scale**2 > image_input.MAX_PIXELS:
        most = image_input.MAX_PIXELS
        raise ParameterError(
            "upscale", f"must leave at most {most} pixels; {width}x{height} times {scale} has more"
        )


def _resized(
    made: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], upscaler: str
) -> UInt8[np.ndarray, "H W 3"]:
    scale = max(size[0] / made.shape[1], size[1] / made.shape[0])
    if upscaler != LANCZOS and scale > 1:
        made = upscale(made, upscaler, min(scale, MAX_SCALE))
    if made.shape[1::-1] == size:
        return made
    return np.asarray(Image.fromarray(made).resize(size, Image.Resampling.LANCZOS))
