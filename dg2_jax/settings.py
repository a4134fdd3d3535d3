"""What a user may ask of a pipeline: the settings, the prompts, the seeds, and their checks."""

import dataclasses
import math
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np

from dg2_jax import model as model_lib
from dg2_jax import schedules, solvers

MAX_STEPS = 1000
MAX_IMAGES = 256


@dataclasses.dataclass(frozen=True)
class Settings:
    """How pictures are made; checked on construction, stored with the result.

    Attributes:
        num_inference_steps: 1 to 1000 (and at most the schedule's levels).
        guidance_scale: 0 to 100; 1 is unguided and costs half as much.
        solver: one of `dg2_jax.solvers.SOLVERS`.
        eta: DDIM's noise, 0 to 1.
        guidance_rescale: 0 to 1, see `guidance.rescale`.
        guidance_interval: noise levels (σ, 0 to 1) between which guidance acts; None for all.
        spacing: of the timesteps; None for the schedule's own default.
        weights: "ema" or "raw".

    Raises:
        ValueError: naming the parameter and what is allowed.
    """

    num_inference_steps: int = 20
    guidance_scale: float = 5.0
    solver: str = "dpmpp_2m"
    eta: float = 0.0
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] | None = None
    spacing: str | None = None
    weights: str = "ema"

    def __post_init__(self) -> None:
        _check_int("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        _check_real("guidance_scale", self.guidance_scale, 0.0, 100.0)
        _check_real("eta", self.eta, 0.0, 1.0)
        _check_real("guidance_rescale", self.guidance_rescale, 0.0, 1.0)
        _check_choice("solver", self.solver, solvers.SOLVERS)
        _check_choice("weights", self.weights, model_lib.WEIGHTS)
        if self.spacing is not None:
            _check_choice("spacing", self.spacing, schedules.SPACINGS)
        if self.guidance_interval is not None:
            if len(self.guidance_interval) != 2:
                raise ValueError("guidance_interval must be two noise levels (low, high) or None")
            low, high = self.guidance_interval
            _check_real("guidance_interval", low, 0.0, 1.0)
            _check_real("guidance_interval", high, low, 1.0)


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


def expand_seed(seed: int | None, count: int) -> list[int]:
    """The seeds of `count` images: seed, seed + 1, …; drawn if `seed` is None.

    Raises:
        ValueError: the seed is not an integer from 0 to 2³² - 1.
    """
    if seed is None:
        seed = secrets.randbelow(2**32)
    _check_int("seed", seed, 0, 2**32 - 1)
    return [(int(seed) + i) % 2**32 for i in range(count)]


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
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
