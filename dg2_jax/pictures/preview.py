"""Previews of a denoising run: latents to colours by one small matrix, and animations.

The colour of the pixels that a latent cell stands for is nearly linear in the cell, so
rgb = z W + b shows a picture at no cost. Show the estimate of x₀, never the noisy sample.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from dg2_jax.pictures.images import cell_means, to_uint8
from dg2_jax.typing import Latent

ANIMATIONS = (".gif", ".webp")
MAX_FPS = 50.0  # the fastest GIFs that viewers play at full speed
_LAST_FRAME_MS = 1500


class LatentToRGB(NamedTuple):
    """rgb = z · weight + bias, in [-1, 1], of scaled latents.

    Attributes:
        weight: (c, 3).
        bias: (3,).
    """

    weight: Float[np.ndarray, "c 3"]
    bias: Float[np.ndarray, "3"]

    def to_dict(self) -> dict[str, list]:
        """Plain data for a model folder's config.json."""
        return {
            "weight": np.round(self.weight, 6).tolist(),
            "bias": np.round(self.bias, 6).tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LatentToRGB":
        """The inverse of `to_dict`.

        Raises:
            ValueError: it does not hold finite numbers of the shapes (c, 3) and (3,).
        """
        try:
            weight, bias = (np.asarray(values[k], np.float64) for k in ("weight", "bias"))
            valid = weight.ndim == 2 and weight.shape[1] == 3 and bias.shape == (3,)
            valid = valid and bool(np.isfinite(weight).all() and np.isfinite(bias).all())
        except (KeyError, TypeError, ValueError):
            valid = False
        if not valid:
            raise ValueError(
                "preview must hold numbers: weight of shape (c, 3), bias of shape (3,)"
            )
        return cls(weight, bias)


# Of the Stable Diffusion autoencoder, in latents scaled by 0.18215: factors in common use.
STABLE_DIFFUSION = LatentToRGB(
    np.array(
        [
            [0.3512, 0.2297, 0.3227],
            [0.3250, 0.4974, 0.2350],
            [-0.2829, 0.1762, 0.2721],
            [-0.2120, -0.2616, -0.7177],
        ]
    ),
    np.zeros(3),
)


# Of XL's autoencoder, in latents scaled by 0.13025; likewise.
STABLE_DIFFUSION_XL = LatentToRGB(
    np.array(
        [
            [0.3651, 0.4232, 0.4341],
            [-0.2533, -0.0042, 0.1068],
            [0.1076, 0.1111, -0.0362],
            [-0.3165, -0.2492, -0.2188],
        ]
    ),
    np.array([0.1084, -0.0175, -0.0011]),
)


def fit_latent_to_rgb(
    latents: Float[np.ndarray, "n h w c"], images: UInt8[np.ndarray, "m H W 3"]
) -> LatentToRGB:
    """The least-squares map from latent cells to the mean colours of their pixels.

    Args:
        latents: scaled.
        images: the pictures they stand for; H and W are multiples of h and w.

    Raises:
        ValueError: the shapes do not fit, or there are fewer cells than unknowns.
    """
    n, h, w, c = latents.shape
    height, width = images.shape[1:3]
    if len(images) != n or height % h or width % w:
        raise ValueError(
            f"images must be {n} with sides that are multiples of {h} and {w}, got {images.shape}"
        )
    if n * h * w <= c:
        raise ValueError(f"latents must have more than {c} cells in all, got {n * h * w}")
    cells = cell_means(images, h, w)
    ones = np.ones((n * h * w, 1))
    inputs = np.concatenate([latents.reshape(-1, c).astype(np.float64), ones], axis=1)
    weights = np.linalg.lstsq(inputs, cells.reshape(-1, 3) / 127.5 - 1.0, rcond=None)[0]
    return LatentToRGB(weights[:-1], weights[-1])


def apply(latents: Latent, linear: LatentToRGB) -> UInt8[Array, "b h w 3"]:
    """Pictures with the height and width of the latents; pure JAX.

    Args:
        latents: scaled, x₀ estimates.
        linear: the map of the autoencoder.
    """
    weight, bias = (jnp.asarray(a, jnp.float32) for a in linear)
    rgb = latents @ weight + bias[None, None, None]
    return to_uint8(rgb)


def of_model(config: Mapping[str, Any], latent_channels: int) -> LatentToRGB:
    """The map of a model folder's configuration.

    Without one, latents of four channels use the published factors; for others the first three
    channels are shown, which is better than nothing.

    Raises:
        ValueError: the configuration's map does not fit.
    """
    if "preview" in config:
        linear = LatentToRGB.from_dict(config["preview"])
        if len(linear.weight) != latent_channels:
            raise ValueError(
                f"preview must have weights for {latent_channels} channels, got "
                f"{len(linear.weight)}"
            )
        return linear
    if latent_channels == len(STABLE_DIFFUSION.weight):
        return STABLE_DIFFUSION
    return LatentToRGB(np.eye(latent_channels, 3) * 0.4, np.zeros(3))


def animation_path(path: str | Path) -> Path:
    """The path of an animation, checked.

    Raises:
        ValueError: the suffix is not one of ANIMATIONS.
    """
    path = Path(path)
    if path.suffix.lower() not in ANIMATIONS:
        raise ValueError(f"animation must end in {' or '.join(ANIMATIONS)}, got {path.name!r}")
    return path


def save_animation(frames: Sequence[np.ndarray], path: str | Path, fps: float = 8.0) -> Path:
    """Writes a looping animation whose last frame stays for a second and a half.

    An existing file is replaced.

    Args:
        frames: uint8 (h, w, 3) each, of one size.
        path: .gif (256 colours per frame) or .webp (lossless); its folder is created if missing.
        fps: frames per second, above 0 and at most MAX_FPS.

    Returns:
        The path.

    Raises:
        ValueError: naming the parameter and what is allowed.
    """
    path = animation_path(path)
    if not 0 < fps <= MAX_FPS:
        raise ValueError(f"fps must be above 0 and at most {MAX_FPS:g}, got {fps}")
    shapes = {(frame.shape, frame.dtype.name) for frame in frames}
    if len(shapes) != 1 or not all(s[2:] == (3,) and d == "uint8" for s, d in shapes):
        raise ValueError("frames must be one or more uint8 arrays (h, w, 3) of one size")
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = [Image.fromarray(frame) for frame in frames]
    durations = [round(1000 / fps)] * len(others) + [_LAST_FRAME_MS]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, lossless=True)
    return path
