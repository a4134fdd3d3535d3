"""What a user may ask of a pipeline: the settings, the prompts, the seeds, and their checks."""

import dataclasses
import math
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np

from dg2_jax.diffusion import schedules, solvers, views
from dg2_jax.interop.realesrgan import MODELS as UPSCALERS
from dg2_jax.models import folder as model_lib
from dg2_jax.models.folder import Model
from dg2_jax.pictures.image_input import RESIZE_MODES

MAX_STEPS = 1000
MAX_IMAGES = 256
MAX_SIDE = 4096  # pixels
MAX_SEED = 2**32 - 1
BATCH_SIZES = (1, 2, 4, 8, 16)  # that are compiled; other numbers of images are split and padded
MAX_ROWS = 2 * MAX_STEPS  # of a solver's table; Heun needs two rows a step
MAX_VIEWS = 4
STRENGTH_MODES = ("partial", "full")
INVERSIONS = {"ddim": "ddim", "ddpm": "ddpm"}  # and the solver that goes with each
ANAGRAM_MODES = ("latent", "corrected", "pixel")
PREVIEW_MODES = ("linear", "vae")
UPSCALES = (2, 4)
FIRST_ORDER = ("ddim", "ddpm", "ddpm_large", "euler", "euler_ancestral")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How pictures are made; checked on construction, stored with the result.

    Attributes:
        num_inference_steps: 1 to 1000 (and at most the schedule's levels).
        guidance_scale: 0 to 100; 1 is unguided and costs half as much.
        solver: one of `dg2_jax.diffusion.solvers.SOLVERS`.
        eta: DDIM's noise, 0 to 1.
        guidance_rescale: 0 to 1, see `guidance.rescale`.
        guidance_interval: noise levels (σ, 0 to 1) between which guidance acts; None for all.
        apg_eta, apg_norm_threshold, apg_momentum: of adaptive projected guidance, 0 to 1, above 0
            or None, and -1 to 1; see `guidance.adaptive_projected`. (1, None, 0) is plain guidance.
        autoguidance_model: a weaker model to move away from (an earlier checkpoint's folder).
        autoguidance_scale: 0 to 100; 1 does not use it.
        reuse_every: 1 to 1000; above 1 the deep levels of the UNet are run at every so many rows of
            the solver only, and what they gave is reused between: quicker, at some cost of quality;
            see `dg2_jax.diffusion.reuse`. Of models with such levels only.
        spacing: of the timesteps; None for the schedule's own default.
        weights: "ema", "raw", or "fast" where the model has such weights.
        strength: of a change to `image`, 0 (only the autoencoder acts) to 1 (txt2img).
        strength_mode: "partial" runs the last int(steps · strength) of the steps; "full" runs all
            of them from timestep strength · (T - 1) on.
        resize_mode: how an `image` of another shape is fitted: "crop" or "pad"; never distorted.
        inversion: how an `image` is turned to noise: None adds noise; "ddim" inverts DDIM exactly,
            "ddpm" is the edit-friendly inversion. Both set the solver of that name and want
            `source_prompt`.
        source_prompt: what `image` shows; empty for no text.
        mask_feather: pixels over which a repainted region fades into the rest, 0 to 64.
        num_resamples: times each step is repeated in in-painting (RePaint), 1 to 20; above 1 the
            solver must be one of FIRST_ORDER.
        outpaint: new pixels (left, top, right, bottom) around a smaller copy of `image`.
        anagram: 2 to 4 pairs (prompt, view of `dg2_jax.diffusion.views.VIEWS`).
        anagram_mode: "latent" (one latent, mean), "corrected" (the same with its variance kept) or
            "pixel" (a latent a view, synchronised in pixels).
        height, width: of the pictures in pixels, multiples of what the model's networks need; None
            is the model's own size.
        upscale: 2, 4 or None.
        upscaler: one of UPSCALERS.

    Raises:
        ValueError: naming the parameter and what is allowed.
    """

    num_inference_steps: int = 20
    guidance_scale: float = 2.5
    solver: str = "dpmpp_2m"
    eta: float = 0.0
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] | None = None
    apg_eta: float = 1.0
    apg_norm_threshold: float | None = None
    apg_momentum: float = 0.0
    autoguidance_model: str | None = None
    autoguidance_scale: float = 1.0
    reuse_every: int = 1
    spacing: str | None = None
    weights: str = "ema"
    strength: float = 0.75
    strength_mode: str = "partial"
    resize_mode: str = "crop"
    inversion: str | None = None
    source_prompt: str = ""
    mask_feather: float = 4.0
    num_resamples: int = 1
    outpaint: tuple[int, ...] | None = None
    anagram: Sequence[tuple[str, str]] | None = None
    anagram_mode: str = "latent"
    height: int | None = None
    width: int | None = None
    upscale: int | None = None
    upscaler: str = "x4plus"

    def __post_init__(self) -> None:
        _check_int("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        _check_real("guidance_scale", self.guidance_scale, 0.0, 100.0)
        _check_real("autoguidance_scale", self.autoguidance_scale, 0.0, 100.0)
        _check_int("reuse_every", self.reuse_every, 1, MAX_STEPS)
        for name in ("eta", "guidance_rescale", "strength", "apg_eta"):
            _check_real(name, getattr(self, name), 0.0, 1.0)
        _check_real("apg_momentum", self.apg_momentum, -1.0, 1.0)
        if self.apg_norm_threshold is not None:
            _check_real("apg_norm_threshold", self.apg_norm_threshold, 1e-6, 1e6)
        if self.autoguidance_scale != 1.0 and self.autoguidance_model is None:
            raise ValueError("autoguidance_scale other than 1 needs autoguidance_model")
        for name in ("height", "width"):
            if getattr(self, name) is not None:
                _check_int(name, getattr(self, name), 8, MAX_SIDE)
        _check_real("mask_feather", self.mask_feather, 0.0, 64.0)
        _check_int("num_resamples", self.num_resamples, 1, 20)
        choices: dict[str, Any] = {
            "solver": solvers.SOLVERS,
            "weights": model_lib.WEIGHTS,
            "strength_mode": STRENGTH_MODES,
            "resize_mode": RESIZE_MODES,
            "anagram_mode": ANAGRAM_MODES,
            "upscaler": UPSCALERS,
        }
        for name, allowed in choices.items():
            _check_choice(name, getattr(self, name), allowed)
        optional = {"spacing": schedules.SPACINGS, "inversion": INVERSIONS, "upscale": UPSCALES}
        for name, allowed in optional.items():
            if getattr(self, name) is not None:
                _check_choice(name, getattr(self, name), allowed)
        if not isinstance(self.source_prompt, str):
            raise ValueError(f"source_prompt must be a text, got {self.source_prompt!r}")
        self._check_interval()
        self._check_outpaint()
        self._check_anagram()
        if self.inversion is not None:
            object.__setattr__(self, "solver", INVERSIONS[self.inversion])
            object.__setattr__(self, "eta", 0.0)
        if self.num_resamples > 1 and self.solver not in FIRST_ORDER:
            allowed = ", ".join(FIRST_ORDER)
            raise ValueError(f"num_resamples above 1 needs solver to be one of {allowed}")
        if self.num_resamples * self.num_inference_steps > MAX_ROWS:
            raise ValueError(f"num_resamples times num_inference_steps must be at most {MAX_ROWS}")

    def _check_interval(self) -> None:
        if self.guidance_interval is None:
            return
        if not _has_length(self.guidance_interval, 2):
            raise ValueError("guidance_interval must be two noise levels (low, high) or None")
        low, high = self.guidance_interval
        _check_real("guidance_interval", low, 0.0, 1.0)
        _check_real("guidance_interval", high, low, 1.0)

    def _check_outpaint(self) -> None:
        if self.outpaint is None:
            return
        if not _has_length(self.outpaint, 4):
            raise ValueError("outpaint must be four numbers of pixels (left, top, right, bottom)")
        for pixels in self.outpaint:
            _check_int("outpaint", pixels, 0, 4096)

    def _check_anagram(self) -> None:
        if self.anagram is None:
            return
        if isinstance(self.anagram, str) or not 2 <= len(self.anagram) <= MAX_VIEWS:
            raise ValueError(f"anagram must be 2 to {MAX_VIEWS} pairs (prompt, view)")
        for pair in self.anagram:
            if not _has_length(pair, 2) or not isinstance(pair[0], str):
                raise ValueError(f"anagram must be pairs (prompt, view), got {pair!r}")
            _check_choice("anagram", pair[1], views.VIEWS)
        object.__setattr__(self, "anagram", tuple((prompt, view) for prompt, view in self.anagram))


def for_model(model: Model, weights: str = "ema", **given: Any) -> Settings:
    """The settings of a call: what is given, else what the weights want, else the usual.

    Args:
        model: whose config.json says under "sampling" what a set of weights wants; see
            `dg2_jax.models.folder.SAMPLING`.
        weights: the set.
        given: fields of `Settings`; None is not given.

    Raises:
        ValueError: naming the parameter and what is allowed.
    """
    check_weights(weights, tuple(model.params), model.name)
    chosen = {name: value for name, value in given.items() if value is not None}
    wanted = model.config.get("sampling", {}).get(weights, {})
    return Settings(weights=weights, **{**wanted, **chosen})


def check_weights(weights: str, sets: Sequence[str], model: str) -> None:
    """Raises ValueError unless `weights` is one of the sets that the model of that name has."""
    if weights not in sets:
        allowed = ", ".join(sets)
        raise ValueError(
            f"weights must be one of {allowed} with the model {model}; got {weights!r}"
        )


def _has_length(value: Any, length: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == length


def expand_prompts(
    prompt: str | Sequence[str], negative_prompt: str | Sequence[str], num_images: int
) -> tuple[list[str], list[str]]:
    """One prompt and one negative prompt an image, prompt by prompt.

    Raises:
        ValueError: naming the parameter and what is allowed.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts or not all(isinstance(p, str) for p in prompts):
        raise ValueError("prompt must be a text or a non-empty list of texts")
    if isinstance(negative_prompt, str):
        negatives = [negative_prompt] * len(prompts)
    else:
        negatives = list(negative_prompt)
    if len(negatives) != len(prompts) or not all(isinstance(p, str) for p in negatives):
        raise ValueError("negative_prompt must be one text, or one text for each prompt")
    _check_int("num_images", num_images, 1, MAX_IMAGES)
    if len(prompts) * num_images > MAX_IMAGES:
        raise ValueError(f"prompts times num_images must be at most {MAX_IMAGES}")
    return (
        [p for p in prompts for _ in range(num_images)],
        [p for p in negatives for _ in range(num_images)],
    )


def expand_seed(seed: int | Sequence[int] | None, count: int) -> list[int]:
    """The seeds of `count` images: seed, seed + 1, …; drawn if None; or one given for each.

    Raises:
        ValueError: a seed is not an integer from 0 to 2³² - 1, or there are not as many as images.
    """
    if isinstance(seed, Sequence) and not isinstance(seed, str):
        if len(seed) != count:
            raise ValueError(f"seed must be one integer, or one for each of the {count} images")
        for each in seed:
            _check_int("seed", each, 0, MAX_SEED)
        return [int(each) for each in seed]
    if seed is None:
        seed = secrets.randbelow(MAX_SEED + 1)
    _check_int("seed", seed, 0, MAX_SEED)
    return [(int(seed) + i) % (MAX_SEED + 1) for i in range(count)]


def check_preview(every: int, mode: str) -> None:
    """Raises ValueError unless these are a distance in steps and a member of PREVIEW_MODES."""
    _check_int("preview_every", every, 1, MAX_STEPS)
    _check_choice("preview_mode", mode, PREVIEW_MODES)


def _check_int(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be an integer from {low} to {high}, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, got {value}")


def _check_real(name: str, value: Any, low: float, high: float) -> None:
    real = isinstance(value, int | float | np.floating | np.integer) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low} to {high}, got {value!r}")


def _check_choice(name: str, value: Any, choices: Any) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}; got {value!r}")
