"""Pictures in and out: uploads decoded under strict rules, results encoded with their settings.

An upload may be hostile. PNG, JPEG and WebP are told by content; the pixel count is checked before
anything is decoded; what decodes has one defined meaning: the first frame, turned as EXIF says, in
8-bit RGB with transparency over white.
"""

import base64
import binascii
import contextlib
import io
import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from dg2_jax.pictures import image_input
from dg2_jax.pictures.image_input import FORMATS, to_rgb
from dg2_jax.pictures.images import METADATA_KEY, PARAMETERS_KEY, png_info
from dg2_jax.serve import exif, infotext
from dg2_jax.serve.problems import ProblemError

MAX_SIDE = 16384


def from_text(text: str, field: str) -> bytes:
    """Base64, with or without a `data:` prefix, to bytes; never an address that is fetched.

    Raises:
        ProblemError: 422 naming the field.
    """
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise ProblemError(422, "a data: URI must be base64", field)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProblemError(422, "must be base64, a data: URI or a picture's id", field) from error


def decode(data: bytes, field: str, max_pixels: int) -> Image.Image:
    """Opens and fully decodes an upload, its first frame, turned as EXIF says, in its own mode.

    Raises:
        ProblemError: 422 naming the field: another format, too many pixels, a damaged file.
    """
    allowed = "must be a PNG, JPEG or WebP picture"
    limit = f"must have at most {max_pixels} pixels and {MAX_SIDE} a side"

    def check_size(picture: Image.Image) -> None:
        width, height = picture.size
        if width * height > max_pixels or max(width, height) > MAX_SIDE:
            raise ProblemError(422, f"{limit}, got {width}x{height}", field)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = image_input.decode(data, FORMATS, check_size)
    except ProblemError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ProblemError(422, f"{limit}; it has too many pixels", field) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ProblemError(422, f"{allowed}; this cannot be read", field) from error
    with contextlib.suppress(Exception):  # a damaged EXIF block; the pixels are fine
        picture = ImageOps.exif_transpose(picture)
    return picture


def to_mask(picture: Image.Image) -> Image.Image:
    """8-bit grey; white is repainted. Transparency counts as black."""
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba)
    return to_rgb(picture).convert("L")


def alpha(picture: Image.Image) -> Image.Image | None:
    """The transparency, 8-bit; None where all is opaque."""
    if picture.mode not in ("RGBA", "LA", "PA") and "transparency" not in picture.info:
        return None
    opacity = picture.convert("RGBA").getchannel("A")
    return None if opacity.getextrema() == (255, 255) else opacity


def surroundings(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """An RGB picture whose white part (of `mask`) holds a blend of the colours around it.

    Each white pixel takes the nearest colour outside, and what comes of it is blurred; a picture
    that is white all over stays as it is. The blend of a picture with a side of more than 1024
    pixels is made at that size.
    """
    from scipy import ndimage  # late, since it is rarely needed and slow to import

    small = picture.copy()
    small.thumbnail((1024, 1024))
    white = np.asarray(mask.resize(small.size)) >= 128
    if white.all() or not white.any():
        return picture
    pixels = np.asarray(small, np.float32)
    rows, columns = ndimage.distance_transform_edt(
        white, return_distances=False, return_indices=True
    )
    blur = max(small.size) / 32
    blended = ndimage.gaussian_filter(pixels[rows, columns], (blur, blur, 0)).astype(np.uint8)
    repainted = mask.resize(picture.size).point([255 * (value >= 128) for value in range(256)])
    return Image.composite(Image.fromarray(blended).resize(picture.size), picture, repainted)


def encode(
    picture: np.ndarray | Image.Image,
    metadata: Mapping[str, Any] | None = None,
    fmt: str = "PNG",
    quality: int = 92,
) -> bytes:
    """A picture as PNG, WEBP or JPEG bytes, which carry `metadata`, if given."""
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    text = "" if metadata is None else infotext.write(metadata)
    options: dict[str, Any] = {"quality": quality, "exif": exif.of_text(text)}
    if fmt == "PNG":
        options = {"pnginfo": PngInfo() if metadata is None else png_info(metadata, text)}
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def converted(picture: Image.Image, fmt: str, quality: int = 92) -> bytes:
    """A stored picture in another format, with the settings that it carries."""
    return encode(to_rgb(picture), read_metadata(picture)[0], fmt, quality)


def base64_text(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode()


def data_uri(png: bytes) -> str:
    """PNG bytes as `data:` URI."""
    return "data:image/png;base64," + base64_text(png)


def read_metadata(picture: Image.Image) -> tuple[dict[str, Any] | None, str | None]:
    """What a picture says of itself: (our settings, the readable text), None where missing.

    PNGs say both, JPEG and WebP have the text alone, which holds the settings as well.
    """
    text = picture.info.get(PARAMETERS_KEY) or exif.text_of(picture)
    try:
        metadata = json.loads(picture.info.get(METADATA_KEY, "null"))
    except (ValueError, TypeError, RecursionError):
        metadata = None
    return metadata if isinstance(metadata, dict) else None, text if isinstance(text, str) else None
