"""What the library offers, as lists: for validation and for `GET /options`."""

from dg2_jax.model import WEIGHTS
from dg2_jax.schedules import SPACINGS
from dg2_jax.settings import (
    ANAGRAM_MODES,
    INVERSIONS,
    PREVIEW_MODES,
    RESIZE_MODES,
    STRENGTH_MODES,
    UPSCALERS,
    UPSCALES,
)
from dg2_jax.solvers import SOLVERS
from dg2_jax.views import VIEWS

KINDS = ("txt2img", "img2img", "inpaint", "anagram", "upscale")
SPLITS = ("train", "validation")
CHOICES: dict[str, tuple] = {
    "kind": KINDS,
    "solver": tuple(SOLVERS),
    "spacing": tuple(SPACINGS),
    "weights": tuple(WEIGHTS),
    "strength_mode": tuple(STRENGTH_MODES),
    "resize_mode": tuple(RESIZE_MODES),
    "inversion": tuple(INVERSIONS),
    "view": tuple(VIEWS),
    "anagram_mode": tuple(ANAGRAM_MODES),
    "upscale": tuple(UPSCALES),
    "upscaler": tuple(UPSCALERS),
    "preview_mode": ("none", *PREVIEW_MODES),
    "prompt_matching": SPLITS,
}
