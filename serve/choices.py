"""What the library offers, as lists: for validation and for `GET /options`."""

from dg2_jax.diffusion.schedules import SPACINGS
from dg2_jax.diffusion.solvers import SOLVERS
from dg2_jax.diffusion.views import VIEWS
from dg2_jax.models.folder import WEIGHTS
from dg2_jax.settings import (
    ANAGRAM_MODES,
    INVERSIONS,
    PREVIEW_MODES,
    RESIZE_MODES,
    STRENGTH_MODES,
    UPSCALERS,
    UPSCALES,
)

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
