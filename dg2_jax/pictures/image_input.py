"""Pictures from outside: any size and mode in, uint8 RGB of the requested size out, undistorted."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from dg2_jax.checks import ParameterError

ImageSource = str | Path | bytes | Image.Image | np.ndarray

FORMATS = ("PNG", "JPEG", "WEBP")
DATA_FORMATS = (*FORMATS, "GIF", "TIFF", "BMP")  # of data sets; only the first frame is read
_FORMAT_NAMES = {"WEBP": "WebP"}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
RESIZE_MODES = ("crop", "pad")
CENTRE = (0.5, 0.5)  # of a source that is cropped
LANCZOS = "lanczos"  # resizing by a filter, where a network may be asked for instead
MAX_PIXELS = 2**26  # 64 megapixels; a decoded picture then takes 256 MB at most


class Placement(NamedTuple):
    """Which part of a source goes into which part of a target.

    Attributes:
        box: (left, top, right, bottom) of the source, in fractions of pixels too.
        inner: (left, top, right, bottom) of the target, in whole pixels.
    """

    box: tuple[float, float, float, float]
    inner: tuple[int, int, int, int]


def fit(
    source_size: tuple[int, int],
    target_size: tuple[int, int],
    resize_mode: str = "crop",
    crop_position: tuple[float, float] = CENTRE,
) -> Placement:
    """How a source is placed in a target without distortion; a mask is placed like its image.

    Args:
        source_size: (width, height).
        target_size: (width, height).
        resize_mode: "crop" fills the target with a part of the source; "pad" shows the whole
            source in the middle of the target, with its sides rounded to whole pixels.
        crop_position: where "crop" takes that part: (across, down), each from 0, left or top, to 1,
            right or bottom.

    Raises:
        ValueError: another resize_mode.
    """
    if resize_mode not in RESIZE_MODES:
        raise ValueError(f"resize_mode must be one of {', '.join(RESIZE_MODES)}; {resize_mode!r}")
    (w, h), (to_w, to_h) = source_size, target_size
    if resize_mode == "pad":
        scale = min(to_w / w, to_h / h)
        inner_w, inner_h = max(1, round(w * scale)), max(1, round(h * scale))
        left, top = (to_w - inner_w) // 2, (to_h - inner_h) // 2
        return Placement((0.0, 0.0, float(w), float(h)), (left, top, left + inner_w, top + inner_h))
    box_w, box_h = min(w, h * to_w / to_h), min(h, w * to_h / to_w)
    x, y = (w - box_w) * crop_position[0], (h - box_h) * crop_position[1]
    box = (x, y, min(float(w), x + box_w), min(float(h), y + box_h))
    return Placement(box, (0, 0, to_w, to_h))


def load_image(
    source: ImageSource,
    width: int,
    height: int,
    resize_mode: str = "crop",
    formats: tuple[str, ...] = FORMATS,
    name: str = "image",
    crop_position: tuple[float, float] = CENTRE,
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture at the requested size, never distorted.

    Transparency is laid over white, an animation gives its first frame, the EXIF orientation is
    applied, and the margins of "pad" repeat the picture's outermost pixels.

    Args:
        source: a PNG, JPEG or WebP file (told by content, not by name) as path or bytes; a PIL
            image of any mode; or a uint8 array (h, w), (h, w, 3) or (h, w, 4).
        width: of the result.
        height: of the result.
        resize_mode: "crop" or "pad", see `fit`.
        formats: of files that are read: `FORMATS`, or `DATA_FORMATS`.
        name: of the parameter, for the messages.
        crop_position: which part "crop" takes, see `fit`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not such a picture, a damaged one, or one of more than MAX_PIXELS.
    """
    picture = read(source, name, formats)
    with clear_errors(name):
        picture = to_rgb(picture)
    box, (left, top, right, bottom) = fit(picture.size, (width, height), resize_mode, crop_position)
    inner = picture.resize((right - left, bottom - top), Image.Resampling.LANCZOS, box=box)
    around = ((top, height - bottom), (left, width - right), (0, 0))
    return np.pad(np.asarray(inner), around, mode="edge")


def read(source: ImageSource, name: str, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Decodes a picture and applies its EXIF orientation; its mode stays.

    Args:
        source: as for `load_image`.
        name: of the parameter, for messages.
        formats: as for `load_image`.

    Raises:
        FileNotFoundError, ValueError: as `load_image` does.
    """
    if isinstance(source, str | Path):
        source = _read_file(Path(source), name)

    def check_size(picture: Image.Image) -> None:
        if not 0 < picture.width * picture.height <= MAX_PIXELS:
            raise _BadImageError(
                f"must have 1 to {MAX_PIXELS} pixels, got {picture.width}x{picture.height}"
            )

    with clear_errors(name, formats):
        if isinstance(source, Image.Image):
            picture = source
        elif isinstance(source, bytes):
            picture = decode(source, formats, check_size)
        elif hasattr(source, "__array__"):
            picture = _from_array(np.asarray(source), name)
        else:
            raise _BadImageError(
                f"must be a path, bytes, a PIL image or an array, got {type(source)}"
            )
        check_size(picture)
        picture.load()
        with contextlib.suppress(Exception):  # a damaged EXIF block; the pixels are fine
            picture = ImageOps.exif_transpose(picture)
        return picture


def decode(
    content: bytes, formats: tuple[str, ...], check_size: Callable[[Image.Image], None]
) -> Image.Image:
    """Decodes the first frame of a file.

    A PNG whose text or colour profile cannot be read (Pillow refuses those above a megabyte) is
    decoded without them, since the pixels do not depend on them.

    Args:
        content: of the file.
        formats: the Pillow formats to read.
        check_size: raises if the picture is too large to be decoded.

    Raises:
        Exception: what `check_size` or Pillow raises.
    """

    def first_frame(data: bytes) -> Image.Image:
        picture = Image.open(io.BytesIO(data), formats=formats)
        check_size(picture)
        picture.load()
        return picture

    if not content.startswith(_PNG_SIGNATURE):
        return first_frame(content)
    try:
        return first_frame(content)
    except (OSError, ValueError, SyntaxError):
        return first_frame(_without_texts(content))


def _without_texts(png: bytes) -> bytes:
    """A PNG without its text and colour-profile chunks."""
    kept, start = [_PNG_SIGNATURE], len(_PNG_SIGNATURE)
    while start < len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")  # length, type, data, CRC
        if png[start + 4 : start + 8] not in _PNG_TEXTS:
            kept.append(png[start:end])
        start = end
    return b"".join(kept)


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any PIL mode to RGB.

    16 bits become 8; modes with one integer or float per pixel are taken as 0-1 (floats only),
    0-255 or 0-65535, the smallest range that holds them. Transparency is laid over white.
    """
    if picture.mode == "F" or picture.mode.startswith("I"):
        values = np.asarray(picture, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("its values must be finite")
        highest = values.max()
        if picture.mode.startswith("I;16") or highest > 255:
            values = values / 257
        elif picture.mode == "F" and highest <= 1:
            values = values * 255
        picture = Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))
    if picture.mode in ("La", "RGBa"):  # premultiplied
        picture = picture.convert({"La": "LA", "RGBa": "RGBA"}[picture.mode])
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


class _BadImageError(ValueError):
    """A problem that is already clear, without the name."""


@contextlib.contextmanager
def clear_errors(name: str, formats: tuple[str, ...] = FORMATS):
    """Turns any error in decoding or converting a picture into one ParameterError of `name`."""
    try:
        yield
    except _BadImageError as error:
        raise ParameterError(name, str(error)) from None
    except UnidentifiedImageError:
        *first, last = (_FORMAT_NAMES.get(known, known) for known in formats)
        raise ParameterError(name, f"must be a {', '.join(first)} or {last} picture") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ParameterError(name, f"must have at most {MAX_PIXELS} pixels") from None
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise ParameterError(name, f"is damaged or cannot be decoded: {error}") from error


def _read_file(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{name} not found: {path}") from None
    except (OSError, ValueError) as error:
        raise ParameterError(name, f"cannot be read: {error}") from error


def _from_array(values: np.ndarray, name: str) -> Image.Image:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    shaped = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
    if values.dtype != np.uint8 or not shaped or not values.size:
        raise _BadImageError(
            f"as an array must be uint8 (h, w), (h, w, 3) or (h, w, 4), "
            f"got {values.dtype} {values.shape}"
        )
    return Image.fromarray(np.ascontiguousarray(values))
