"""Edges of a picture (Canny, IEEE PAMI 1986), as ControlNets of that name were trained on."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

PREPROCESSORS = ("canny",)
LOW, HIGH = 100, 200  # the usual thresholds: of 255 grey levels, summed by a Sobel filter
_SIGMA = 1.0  # pixels that are smoothed over first


def canny(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """White edges on black, one pixel wide, of the picture's brightness."""
    # scikit-image takes most of a second to import, and few need it.
    from skimage.feature import canny as edges_of

    grey = np.asarray(Image.fromarray(image).convert("L"))
    edges = edges_of(grey, _SIGMA, LOW, HIGH)
    return np.repeat((edges * np.uint8(255))[:, :, None], 3, axis=2)
