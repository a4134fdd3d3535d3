"""The picture that a call edits and where it may change: from files to arrays, and back again."""

import hashlib
from dataclasses import dataclass

import numpy as np

from dg2_jax.nn.autoencoder import AutoencoderConfig
from dg2_jax.pictures import image_input, masks
from dg2_jax.pictures.image_input import ImageSource
from dg2_jax.settings import Settings


@dataclass(frozen=True)
class Edit:
    """What is edited.

    Attributes:
        pixels: uint8 (h, w, 3), the picture fitted to the model's size.
        mask: float32 (h, w), 1 where it is repainted; None where all of it may change.
        change: float32 (h/f, w/f), the change map of the latents.
        digest: SHA-256 of the pixels.
    """

    pixels: np.ndarray
    mask: np.ndarray | None
    change: np.ndarray
    digest: str


def prepare(
    image: ImageSource | None,
    mask: ImageSource | None,
    settings: Settings,
    size: int,
    autoencoder: AutoencoderConfig,
) -> Edit | None:
    """Reads and fits what a call edits; None for txt2img.

    Raises:
        ValueError: naming the parameter: a file that is no picture, or controls that do not go
            together.
    """
    _check_combination(image is not None, mask is not None, settings)
    if image is None:
        return None
    factor = autoencoder.downsampling_factor
    painted = None
    if settings.outpaint is not None:
        left, top, right, bottom = settings.outpaint
        border = (left, top, right, bottom)
        pixels, painted = masks.outpaint_canvas(image, border, size)
    else:
        pixels = image_input.load_image(image, size, size, settings.resize_mode)
        if mask is not None:
            painted = masks.load_mask(mask, size, size, settings.resize_mode)
    change = np.ones((size // factor, size // factor), np.float32)
    if painted is not None:
        change = masks.latent_mask(painted, factor)
    return Edit(pixels, painted, change, hashlib.sha256(pixels.tobytes()).hexdigest())


def _check_combination(has_image: bool, has_mask: bool, settings: Settings) -> None:
    for name, used in (
        ("mask", has_mask),
        ("outpaint", settings.outpaint is not None),
        ("inversion", settings.inversion is not None),
    ):
        if used and not has_image:
            raise ValueError(f"{name} needs image, the picture that is changed")
    if has_mask and settings.outpaint is not None:
        raise ValueError("mask cannot be combined with outpaint, which makes its own")
    if settings.num_resamples > 1 and not (has_mask or settings.outpaint is not None):
        raise ValueError("num_resamples above 1 needs mask or outpaint")
    if settings.anagram is not None and settings.inversion is not None:
        raise ValueError("inversion cannot be combined with anagram")
    if settings.anagram is not None and settings.anagram_mode == "pixel" and has_image:
        raise ValueError("image cannot be combined with anagram_mode 'pixel'; use 'latent'")
    if settings.inversion == "ddpm" and (has_mask or settings.outpaint is not None):
        raise ValueError("mask and outpaint cannot be combined with inversion 'ddpm'; use 'ddim'")


def finish(pictures: np.ndarray, edit: Edit, settings: Settings) -> np.ndarray:
    """Pastes repainted regions back: pixels outside the feathered mask are exactly the original's.

    Args:
        pictures: uint8 (n, h, w, 3), as decoded.
        edit: what was edited.
        settings: gives `mask_feather`.
    """
    if edit.mask is None:
        return pictures
    return np.stack(
        [
            masks.paste_back(picture, edit.pixels, edit.mask, settings.mask_feather)
            for picture in pictures
        ]
    )
