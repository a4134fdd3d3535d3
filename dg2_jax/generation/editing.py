"""The picture that a call edits: from files to latents, to the noise behind them, and back."""

import hashlib
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dg2_jax.checks import ParameterError
from dg2_jax.diffusion import sampling
from dg2_jax.generation import coder, drivers
from dg2_jax.generation import plan as planning
from dg2_jax.generation.inputs import Source
from dg2_jax.generation.plan import Plan
from dg2_jax.generation.program import Weights
from dg2_jax.generation.text import TextInputs
from dg2_jax.interop import upscaler_files
from dg2_jax.models.interface import MASK
from dg2_jax.models.model import Model
from dg2_jax.pictures import edges, image_input, masks
from dg2_jax.pictures import region as region_lib
from dg2_jax.pictures.image_input import LANCZOS, ImageSource
from dg2_jax.pictures.region import Region
from dg2_jax.settings import Settings


@dataclass(frozen=True)
class Edit:
    """The picture to edit.

    Attributes:
        pixels: uint8 (H, W, 3), the picture, or its region, fitted to the size of the call.
        mask: float32 (H, W), 1 where it is repainted; None where all of it may change.
        change: float32 (h, w), the change map of the latents.
        digest: SHA-256 of the pixels of the picture.
        region: that is worked on; None where it is the whole picture.
    """

    pixels: np.ndarray
    mask: np.ndarray | None
    change: np.ndarray
    digest: str
    region: Region | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the finished picture, before any enlarging."""
        whole = self.pixels if self.region is None else self.region.photograph
        return whole.shape[0], whole.shape[1]


def load(image: ImageSource | None, mask: ImageSource | None, plan: Plan) -> Edit | None:
    """Reads the picture of a call and fits it to size; None for txt2img.

    Args:
        image: of the call.
        mask: of the call.
        plan: of the call.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: naming the parameter: a file that is not a picture, or controls that do not go
            together.
    """
    settings, (height, width) = plan.settings, plan.size
    _check_combination(image is not None, mask is not None, settings)
    if image is None:
        return None
    painted = region = None
    position = settings.crop_position
    if settings.inpaint_area == "only_masked":
        assert mask is not None  # checked above
        if settings.inpaint_upscaler != LANCZOS:
            upscaler_files.find_weights(settings.inpaint_upscaler)  # raises before any sampling
        padding, feather = settings.inpaint_padding, settings.mask_feather
        region = region_lib.load(image, mask, width, height, padding, feather)
        region_lib.check_enlarged(region, settings.upscale)
        pixels, painted = region.pixels, region.fitted_mask
    elif settings.outpaint is not None:
        left, top, right, bottom = settings.outpaint
        border = (left, top, right, bottom)
        pixels, painted = masks.outpaint_canvas(image, border, width, height, position)
    elif mask is not None:
        mode = settings.resize_mode
        pixels, painted = masks.load_pair(image, mask, width, height, mode, position)
    else:
        pixels = image_input.load_image(
            image, width, height, settings.resize_mode, crop_position=position
        )
    change = np.ones(plan.latent_shape[:2], np.float32)
    if painted is not None:
        change = masks.latent_mask(painted, height // plan.latent_shape[0])
    whole = pixels if region is None else region.photograph
    return Edit(pixels, painted, change, hashlib.sha256(whole.tobytes()).hexdigest(), region)


def encode(model: Model, plan: Plan, edit: Edit | None) -> Source:
    """Where the sampling of a call starts; raises ParameterError as `_masked`."""
    masked = _masked(model, plan, edit) if MASK in model.abilities else None
    if edit is None:
        return Source.noise(plan.latent_shape)._replace(masked=masked)
    original = coder.encode(model.autoencoder, model.autoencoder_params, edit.pixels[None])
    levels = np.float32(plan.start_alpha), np.float32(plan.start_sigma)
    alpha, sigma, change = jax.device_put((*levels, edit.change[None, :, :, None]))
    return Source(original, alpha, sigma, original, change, masked)


def _masked(model: Model, plan: Plan, edit: Edit | None) -> Float[Array, "1 h w c"]:
    """What an in-painting model takes beside the latents: mask, then latents of what it leaves.

    Without a mask all is repainted, and nothing is left.

    Raises:
        ParameterError: a mask with an anagram, whose views would each need their own.
    """
    height, width = plan.size
    pixels, painted = np.zeros((1, height, width, 3), np.uint8), np.ones((height, width), bool)
    if edit is not None and edit.mask is not None:
        if plan.settings.anagram is not None:
            problem = f"cannot be combined with anagram with the in-painting model {model.name}"
            raise ParameterError("mask", problem)
        pixels, painted = edit.pixels[None], edit.mask >= 0.5
    latents = coder.encode_masked(
        model.autoencoder, model.autoencoder_params, pixels, painted[None, :, :, None]
    )
    factor = height // plan.latent_shape[0]
    mask = painted[None, ::factor, ::factor, None].astype(np.float32)
    return jnp.concatenate([jnp.asarray(mask), latents], axis=-1)


def invert(
    model: Model, plan: Plan, source: Source, weights: Weights, source_text: TextInputs
) -> Source:
    """The source whose start is the noise that the original comes from by DDIM.

    Args:
        model: the model.
        plan: the plan of the call, which runs a row or more.
        source: from `encode`.
        weights: of the call.
        source_text: what the picture shows.
    """
    way = planning.backwards(model, plan)
    one, zero = jax.device_put((np.float32(1.0), np.float32(0.0)))
    free = Source.noise(plan.latent_shape).change
    clean = source._replace(alpha=one, sigma=zero, change=free)
    key = sampling.image_keys(jnp.zeros(1, jnp.uint32))
    inputs = way.inputs(clean, source_text, np.ones((1, 1), np.float32), key)
    noise, _ = drivers.generate(way.program, weights._replace(worse=None), inputs, way.num_rows)
    return source._replace(start=noise, alpha=one, sigma=zero)


def paste_back(pictures: np.ndarray, edit: Edit, settings: Settings) -> np.ndarray:
    """Repainted regions in the original: outside the feathered mask pixels are exactly its own.

    Args:
        pictures: uint8 (n, H, W, 3), as decoded.
        edit: what was edited.
        settings: give `mask_feather` and `inpaint_upscaler`.

    Returns:
        uint8 (n, *edit.size, 3).
    """
    if edit.mask is None:
        return pictures
    if edit.region is not None:
        feather, upscaler = settings.mask_feather, settings.inpaint_upscaler
        return np.stack([edit.region.paste(picture, feather, upscaler) for picture in pictures])
    return np.stack(
        [
            masks.paste_back(picture, edit.pixels, edit.mask, settings.mask_feather)
            for picture in pictures
        ]
    )


def check_control(has_image: bool, settings: Settings) -> None:
    """Raises ParameterError where a ControlNet goes without its picture, or not with the rest."""
    if has_image and settings.controlnet is None:
        raise ParameterError("control_image", "needs controlnet, which follows it")
    if settings.controlnet is None:
        return
    if not has_image:
        raise ParameterError("control_image", "is required with controlnet, which follows it")
    for name in ("anagram", "inversion", "autoguidance_model"):
        if getattr(settings, name) is not None:
            raise ParameterError("controlnet", f"cannot be combined with {name}")


def load_control(image: ImageSource | None, plan: Plan) -> Float[np.ndarray, "1 H W 3"] | None:
    """What a ControlNet follows, fitted and prepared; None for None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: naming the parameter: a file that is no picture.
    """
    if image is None:
        return None
    height, width = plan.size
    fitted = plan.settings.resize_mode, image_input.FORMATS, "control_image"
    position = plan.settings.crop_position
    pixels = image_input.load_image(image, width, height, *fitted, crop_position=position)
    if plan.settings.control_preprocessor == "canny":
        pixels = edges.canny(pixels)
    return pixels[None].astype(np.float32) / 255.0


def _check_combination(has_image: bool, has_mask: bool, settings: Settings) -> None:
    paints = has_mask or settings.outpaint is not None
    for name, used in (
        ("mask", has_mask),
        ("outpaint", settings.outpaint is not None),
        ("inversion", settings.inversion is not None),
    ):
        if used and not has_image:
            raise ParameterError(name, "needs image, the picture that is changed")
    if settings.hires_size is not None and has_image:
        raise ParameterError("hires_size", "is of pictures from prompts alone, without image")
    if settings.inpaint_area == "only_masked" and not has_mask:
        raise ParameterError("inpaint_area", "'only_masked' needs mask")
    if has_mask and settings.outpaint is not None:
        raise ParameterError("mask", "cannot be combined with outpaint, which makes its own")
    if settings.num_resamples > 1 and not paints:
        raise ParameterError("num_resamples", "above 1 needs mask or outpaint")
    if settings.anagram is not None and settings.inversion is not None:
        raise ParameterError("inversion", "cannot be combined with anagram")
    if settings.anagram is not None and settings.anagram_mode == "pixel" and has_image:
        raise ParameterError("image", "cannot be combined with anagram_mode 'pixel'; use 'latent'")
    if settings.inversion == "ddpm" and paints:
        name = "mask" if has_mask else "outpaint"
        raise ParameterError(name, "cannot be combined with inversion 'ddpm'; use 'ddim'")
