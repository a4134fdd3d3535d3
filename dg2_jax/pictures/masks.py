"""In-painting masks: reading, fitting, masks of latent cells, feathering and paste-back.

A mask is float32 in [0, 1]: 1 is repainted, 0 stays, and a value in between may change for that
last fraction of the steps (`dg2_jax.diffusion.inpaint`).
"""

import numpy as np
import scipy  # which loads its parts on first use
from jaxtyping import Float, UInt8
from PIL import Image

from dg2_jax.checks import ParameterError
from dg2_jax.pictures import image_input
from dg2_jax.pictures.image_input import CENTRE, ImageSource

Mask = Float[np.ndarray, "h w"]

_NOISE = 8 / 255  # how far JPEG may move black and white
_RING = 4.0  # pixels around the mask where colours are compared, unless the feather is wider
_GAIN = (0.8, 1.25)  # bounds of the colour match: a, and the shift of the ring's mean
_SHIFT = 32.0


def load_mask(
    source: ImageSource,
    width: int,
    height: int,
    resize_mode: str = "crop",
    crop_position: tuple[float, float] = CENTRE,
) -> Mask:
    """A mask at a given size, fitted like a picture of the same shape.

    It shrinks by maximum, so that thin strokes keep their value, and grows by repetition; the
    margins of "pad" are 0. If any pixel of a picture is transparent, the alpha channel is the mask:
    above 128 is repainted, regardless of colour (the convention of the AUTOMATIC1111 web UI).
    Otherwise the lightness is the mask, and values within 3% of black or white count as black or
    white. An 8-bit mask without values above 1 is taken as zeros and ones.

    Args:
        source: a picture as for `image_input.load_image` (white is repainted), or a bool or float
            array (h, w) or (h, w, 1) in [0, 1].
        width: of the result.
        height: of the result.
        resize_mode: "crop" or "pad", as for the image.
        crop_position: as for the image.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not such a picture, or values out of range.
    """
    return _fitted(_read(source), width, height, resize_mode, crop_position)


def load_pair(
    image: ImageSource,
    mask: ImageSource,
    width: int,
    height: int,
    resize_mode: str = "crop",
    crop_position: tuple[float, float] = CENTRE,
) -> tuple[UInt8[np.ndarray, "h w 3"], Mask]:
    """A picture and its mask, fitted together to one size.

    Args:
        image: as for `image_input.load_image`.
        mask: as for `load_mask`, of the picture's size or of the same shape at another size.
        width: of the results.
        height: of the results.
        resize_mode: "crop" or "pad".
        crop_position: which part of both "crop" takes, see `image_input.fit`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not such pictures.
        ParameterError: `mask` has another shape than the picture, marks nothing, or marks only what
            is cropped away.
    """
    picture, values = _read_pair(image, mask)
    fitted = _fitted(values, width, height, resize_mode, crop_position)
    if not fitted.any():
        raise ParameterError(
            "mask",
            f"must mark something inside the {width}x{height} pixels that image is cropped to; "
            "crop_position moves what is kept, and resize_mode 'pad' keeps all of it",
        )
    pixels = image_input.load_image(
        picture, width, height, resize_mode, crop_position=crop_position
    )
    return pixels, fitted


def load_whole(
    image: ImageSource, mask: ImageSource
) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
    """A picture at its own size, and its mask at that size.

    Arguments and errors as of `load_pair`; nothing is cropped.
    """
    picture, values = _read_pair(image, mask)
    width, height = picture.size
    with image_input.clear_errors("image"):
        pixels = np.asarray(image_input.to_rgb(picture))
    values = _resize_by_maximum(values, 0.0, float(len(values)), height)
    return pixels, _resize_by_maximum(values.T, 0.0, float(values.shape[1]), width).T


def _read_pair(image: ImageSource, mask: ImageSource) -> tuple[Image.Image, Mask]:
    """Both decoded; errors as of `load_pair`."""
    picture = image_input.read(image, "image")
    values = _read(mask)
    (w, h), (mask_h, mask_w) = picture.size, values.shape
    # Either may have had its sides rounded to whole pixels when it was resized.
    if abs(mask_w * h - w * mask_h) > max(w, h, mask_w, mask_h):
        raise ParameterError(
            "mask", f"must have the shape of image, {w}x{h} pixels, got {mask_w}x{mask_h}"
        )
    if not values.any():
        raise ParameterError("mask", "must mark something: it is black everywhere")
    return picture, values


def _fitted(
    values: Mask, width: int, height: int, resize_mode: str, crop_position: tuple[float, float]
) -> Float[np.ndarray, "H W"]:
    h, w = values.shape
    box, (left, top, right, bottom) = image_input.fit(
        (w, h), (width, height), resize_mode, crop_position
    )
    values = _resize_by_maximum(values, box[1], box[3], bottom - top)
    values = _resize_by_maximum(values.T, box[0], box[2], right - left).T
    return np.pad(values, ((top, height - bottom), (left, width - right)))


def _read(source: ImageSource) -> Mask:
    if hasattr(source, "__array__") and not isinstance(source, Image.Image):
        values = np.asarray(source)
        if values.dtype != np.uint8:
            return _check_values(values)
    picture = image_input.read(source, "mask")
    with image_input.clear_errors("mask"):
        if picture.has_transparency_data:
            alpha = np.asarray(picture.convert("RGBA"))[:, :, 3]
            if alpha.min() < 255:
                return (alpha > 128).astype(np.float32)
        values = np.asarray(image_input.to_rgb(picture).convert("L"), np.float32)
    if values.max() == 1:  # zeros and ones in 8 bits
        return values
    values = values / 255
    values[values < _NOISE] = 0.0
    values[values > 1 - _NOISE] = 1.0
    return values


def _check_values(values: np.ndarray) -> Mask:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    real = values.dtype == bool or np.issubdtype(values.dtype, np.floating)
    if not real or values.ndim != 2 or not values.size:
        raise ParameterError(
            "mask",
            f"as an array must be bool, float or uint8 (h, w), got {values.dtype} {values.shape}",
        )
    values = values.astype(np.float32)
    if not ((values >= 0) & (values <= 1)).all():
        raise ParameterError("mask", "must be from 0 to 1 as a float array; use uint8 for 0 to 255")
    return values


def _resize_by_maximum(
    values: Mask, start: float, stop: float, count: int
) -> Float[np.ndarray, "count w"]:
    """Resizes rows start … stop to `count` rows, each the maximum of the rows it covers."""
    edges = np.linspace(start, stop, count + 1)
    first = np.minimum(np.floor(edges[:-1] + 1e-6).astype(int), len(values) - 1)
    last = np.maximum(np.ceil(edges[1:] - 1e-6).astype(int), first + 1)
    return np.stack([values[i:j].max(0) for i, j in zip(first, last, strict=True)])


def latent_mask(mask: Mask, factor: int, dilate: int = 1) -> Float[np.ndarray, "hf wf"]:
    """The mask of the latent cells: the maximum over each cell, then dilated by whole cells.

    Args:
        mask: of pixels; a cell is soft only if all of its pixels are.
        factor: pixels per cell along each axis.
        dilate: cells to grow by, also diagonally, as the neighbours show some of a cell's content.

    Raises:
        ValueError: `factor` does not divide the mask's sides.
    """
    h, w = mask.shape
    if h % factor or w % factor:
        raise ValueError(f"mask must have sides divisible by {factor}, got {w}x{h}")
    cells = mask.reshape(h // factor, factor, w // factor, factor).max((1, 3))
    return scipy.ndimage.maximum_filter(cells, 2 * dilate + 1, mode="constant")


def feather(mask: Mask, radius_px: float) -> Mask:
    """A mask that is 1 wherever `mask` is above 0 and fades to 0 around it.

    At distance d it is (g(d) - g(r))/(1 - g(r)) with g(d) = exp(-2 d²/r²), and exactly 0 from
    d = r on.

    Args:
        mask: of pixels.
        radius_px: r, at least 0; up to 1 nothing fades.
    """
    return _fade(_distance(mask), radius_px)


def _distance(mask: Mask) -> np.ndarray:
    """Distance in pixels from each pixel to the nearest one where the mask is above 0."""
    if not (mask > 0).any():
        return np.full(mask.shape, np.inf)
    return scipy.ndimage.distance_transform_edt(mask <= 0)


def _fade(distance: np.ndarray, radius: float) -> Mask:
    if radius < 1:
        return (distance == 0).astype(np.float32)
    end = np.exp(-2.0)
    faded = (np.exp(-2 * (distance / radius) ** 2) - end) / (1 - end)
    return np.where(distance < radius, np.clip(faded, 0.0, 1.0), 0.0).astype(np.float32)


def paste_back(
    generated: UInt8[np.ndarray, "h w 3"],
    original: UInt8[np.ndarray, "h w 3"],
    mask: Mask,
    feather_px: float = 4.0,
    colour_match: bool = True,
) -> UInt8[np.ndarray, "h w 3"]:
    """Pastes the repainted part into the original.

        out = m (a · generated + b) + (1 - m) · original,   m = feather(mask, feather_px)

    where a and b of each channel match the generated colours best to the original's on a ring
    around the mask. Pixels with m = 0 are exactly the original's.

    Args:
        generated: the decoded picture.
        original: the picture that was edited.
        mask: of pixels.
        feather_px: see `feather`.
        colour_match: False for a = 1, b = 0.
    """
    distance = _distance(mask)
    m = _fade(distance, feather_px).astype(np.float64)[:, :, None]
    matched = generated.astype(np.float64)
    if colour_match:
        ring = (distance > 0) & (distance <= max(feather_px, _RING))
        a, b = _match_colours(matched[ring], original[ring].astype(np.float64))
        matched = a * matched + b
    blended = m * np.clip(matched, 0.0, 255.0) + (1.0 - m) * original
    return np.round(blended).astype(np.uint8)


def _match_colours(
    generated: Float[np.ndarray, "n 3"], original: Float[np.ndarray, "n 3"]
) -> tuple[np.ndarray, np.ndarray]:
    """Gain a and offset b of each channel by least squares, to the extent that the pictures agree.

    Where they show different things, a regression's slope measures how little they are related and
    says nothing about contrast; so only the share ρ² that it explains counts.
    """
    if len(generated) < 8:
        return np.ones(3), np.zeros(3)
    g_mean, o_mean = generated.mean(0), original.mean(0)
    g, o = generated - g_mean, original - o_mean
    covariance, g_var, o_var = (g * o).mean(0), (g * g).mean(0) + 1e-6, (o * o).mean(0) + 1e-6
    agreement = covariance**2 / (g_var * o_var)
    a = np.clip(1.0 + agreement * (covariance / g_var - 1.0), *_GAIN)
    shift = np.clip(o_mean - g_mean, -_SHIFT, _SHIFT)
    return a, g_mean + shift - a * g_mean


def outpaint_canvas(
    image: ImageSource,
    border: tuple[int, int, int, int],
    width: int,
    height: int,
    crop_position: tuple[float, float] = CENTRE,
) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
    """A smaller copy of a picture with a border to be painted.

    The picture is cropped to the shape inside the border, never distorted. The border mirrors it
    and loses detail with distance, so that no edge appears at the seam.

    Args:
        image: as for `image_input.load_image`.
        border: (left, top, right, bottom) pixels of the result that are new.
        width: of the result.
        height: of the result.
        crop_position: which part of the picture is kept, see `image_input.fit`.

    Returns:
        The canvas, and its mask: 1 on the border, 0 elsewhere.

    Raises:
        FileNotFoundError, ValueError: as `image_input.load_image` does.
        ParameterError: the border leaves less than an eighth of a side, or nothing is new.
    """
    left, top, right, bottom = border
    inner_width, inner_height = width - left - right, height - top - bottom
    least_width, least_height = max(1, width // 8), max(1, height // 8)
    too_large = inner_width < least_width or inner_height < least_height
    if min(border) < 0 or max(border) == 0 or too_large:
        raise ParameterError(
            "outpaint",
            f"must add pixels and leave at least {least_width} of {width} across and "
            f"{least_height} of {height} down, got {tuple(border)}",
        )
    inner = image_input.load_image(
        image, inner_width, inner_height, "crop", crop_position=crop_position
    )
    around = ((top, bottom), (left, right))
    mirrored = np.pad(inner, (*around, (0, 0)), mode="symmetric").astype(np.float64)
    mask = np.pad(np.zeros((inner_height, inner_width), np.float32), around, constant_values=1.0)
    reach = min(width, height) / 8
    blurred = scipy.ndimage.gaussian_filter(mirrored, (reach / 2, reach / 2, 0), mode="nearest")
    far = np.clip(_distance(1.0 - mask) / reach, 0.0, 1.0)[:, :, None]
    canvas = mirrored + far * (blurred - mirrored)
    return np.clip(np.round(canvas), 0, 255).astype(np.uint8), mask
