"""How images are made: every control declared once, and the checks that join several."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from dg2_jax.checks import ParameterError, check
from dg2_jax.controls import declaration
from dg2_jax.controls.declaration import control
from dg2_jax.controls.model_facts import facts_of
from dg2_jax.controls.values import Boolean, Choice, Integer, Numbers, Pairs, Real, Text
from dg2_jax.diffusion.schedules import SPACINGS
from dg2_jax.diffusion.solvers import FIRST_ORDER, SOLVERS
from dg2_jax.diffusion.views import VIEWS
from dg2_jax.interop.upscaler_files import MODELS as UPSCALERS
from dg2_jax.models.model import WEIGHTS, Model
from dg2_jax.pictures.edges import PREPROCESSORS
from dg2_jax.pictures.image_input import CENTRE, LANCZOS, RESIZE_MODES

MAX_STEPS = 1000
MAX_IMAGES = 256
MAX_SIDE = 4096  # pixels
MAX_SEED = 2**32 - 1
BATCH_SIZES = (1, 2, 4, 8, 16)  # compiled sizes; other numbers of images are split and padded
BRANCH_SIZES = (*BATCH_SIZES, 32)  # prompts and negative prompts that slots evaluate together
MAX_ROWS = 2 * MAX_STEPS  # of a solver's table; Heun needs two rows per step
STRENGTH_MODES = ("partial", "full")
INVERSIONS = {"ddim": "ddim", "ddpm": "ddpm"}  # and the solver that goes with each
INPAINT_AREAS = ("whole", "only_masked")
INPAINT_UPSCALERS = (LANCZOS, *UPSCALERS)
ANAGRAM_MODES = ("latent", "corrected", "pixel")
# Controls that keep a call's pictures from sharing batches with those of other calls, at any but
# these values, and why. See `dg2_jax.generation.slots`.
UNSHARED: dict[str, tuple[Any, str]] = {
    "anagram": (None, "an anagram samples several views as one"),
    "inversion": (None, "an inversion samples its source as well"),
    "reuse_every": (1, "the features of all pictures are computed anew at the same rows"),
    "autoguidance_model": (None, "autoguidance evaluates a second model"),
    "controlnet": (None, "a ControlNet evaluates a second network"),
    "hires_size": (None, "the second pass is of another size"),
}
UPSCALES = (1, 2, 4)
HIRES_METHODS = ("bilinear", "bicubic", "nearest")
DECODERS = ("vae", "taesd")
SAMPLER_GROUPS = ("sampling", "guidance", "speed", "size")  # what `Pipeline.sampler` takes
NAMED = ("num_inference_steps", "guidance_scale", "solver", "weights")  # by `Pipeline` itself
EDITED = ("img2img", "inpaint")
PROMPTED = ("txt2img", *EDITED)

MAX_CLIP_SKIP = 11  # of the twelve layers of the smallest of Stable Diffusion's text encoders

_UNIT = Real(0.0, 1.0)
_SIDE = Integer(8, MAX_SIDE)
_HEIGHT_AND_WIDTH = Numbers(Integer(0, MAX_SIDE), 2)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How images are made; checked on construction, stored with the result.

    `dg2_jax.controls.declaration.of(Settings)` gives the values and the help text of every field.

    Raises:
        ParameterError: naming the parameter and what is allowed.
    """

    num_inference_steps: int = control(
        20, Integer(1, MAX_STEPS), "Steps of the solver; more cost more time.", "sampling"
    )
    guidance_scale: float = control(
        2.5,
        Real(-100.0, 100.0),
        "Strength of the prompt: 1 is unguided and costs half as much, below 0 moves away from it.",
        "sampling",
    )
    solver: str = control(
        "dpmpp_2m", Choice(tuple(SOLVERS)), "Which solver runs the steps.", "sampling"
    )
    eta: float = control(
        0.0, _UNIT, "Noise that DDIM adds per step: 0 none, 1 as DDPM.", "sampling", advanced=True
    )
    spacing: str | None = control(
        None,
        Choice(tuple(SPACINGS)),
        "Spacing of the steps: even in time, or in noise; None is the default of the model's "
        "schedule.",
        "sampling",
        optional=True,
        advanced=True,
    )
    weights: str = control(
        "ema", Choice(tuple(WEIGHTS)), "Which set of the model's weights.", "sampling"
    )
    variation_seed: int = control(
        0,
        Integer(0, MAX_SEED),
        "Seed of the noise that variation_strength moves every picture towards.",
        "sampling",
        kinds=PROMPTED,
        advanced=True,
    )
    variation_strength: float = control(
        0.0,
        _UNIT,
        "How far the initial noise is moved from that of the seed to that of variation_seed: 0 "
        "stays, 1 is there.",
        "sampling",
        kinds=PROMPTED,
        advanced=True,
    )
    guidance_rescale: float = control(
        0.0,
        _UNIT,
        "How much of the contrast that guidance adds is taken back, 0 to 1.",
        "guidance",
        advanced=True,
    )
    guidance_interval: tuple[float, float] | None = control(
        None,
        Numbers(_UNIT, 2),
        "Noise levels (low, high) between which guidance acts, 0 clean to 1 noise; None for all.",
        "guidance",
        optional=True,
        advanced=True,
    )
    apg_eta: float = control(
        1.0,
        _UNIT,
        "Adaptive projected guidance: share of the part parallel to the image; 1 is plain.",
        "guidance",
        advanced=True,
    )
    apg_norm_threshold: float | None = control(
        None,
        Real(1e-6, 1e6),
        "Adaptive projected guidance: greatest norm of a guidance step; None for no limit.",
        "guidance",
        optional=True,
        advanced=True,
    )
    apg_momentum: float = control(
        0.0,
        Real(-1.0, 1.0),
        "Adaptive projected guidance: momentum between steps; below 0 damps, 0 is plain.",
        "guidance",
        advanced=True,
    )
    autoguidance_model: str | None = control(
        None,
        Text(1000),
        "A weaker model to move away from, such as the folder of an earlier checkpoint.",
        "guidance",
        optional=True,
        advanced=True,
    )
    autoguidance_scale: float = control(
        1.0,
        Real(0.0, 100.0),
        "Strength of autoguidance; 1 does not use it, above 1 needs autoguidance_model.",
        "guidance",
        advanced=True,
    )
    reuse_every: int = control(
        1,
        Integer(1, MAX_STEPS),
        "Run the UNet's deep levels at every n-th row of the solver only; above 1 is quicker, at "
        "some cost of quality.",
        "speed",
        advanced=True,
    )
    height: int | None = control(
        None, _SIDE, "Height in pixels; None is the model's own size.", "size", optional=True
    )
    width: int | None = control(
        None, _SIDE, "Width in pixels; None is the model's own size.", "size", optional=True
    )
    original_size: tuple[int, int] | None = control(
        None,
        _HEIGHT_AND_WIDTH,
        "Stable Diffusion XL: height and width that the picture is to look scaled from; None is "
        "its own size.",
        "size",
        optional=True,
        advanced=True,
    )
    crops_coords_top_left: tuple[int, int] | None = control(
        None,
        _HEIGHT_AND_WIDTH,
        "Stable Diffusion XL: rows and columns that the picture is to look cropped by; None is "
        "0,0.",
        "size",
        optional=True,
        advanced=True,
    )
    target_size: tuple[int, int] | None = control(
        None,
        _HEIGHT_AND_WIDTH,
        "Stable Diffusion XL: height and width that the picture is to look made for; None is its "
        "own size.",
        "size",
        optional=True,
        advanced=True,
    )
    clip_skip: int = control(
        0,
        Integer(0, MAX_CLIP_SKIP),
        "Stable Diffusion: layers of the text encoder that are left out at its end.",
        "text",
        advanced=True,
    )
    strength: float = control(
        0.75,
        _UNIT,
        "How much the source image may change: 0 keeps it, 1 ignores it.",
        "source image",
        kinds=EDITED,
        kind_defaults={"inpaint": 1.0},
    )
    strength_mode: str = control(
        "partial",
        Choice(STRENGTH_MODES),
        'Whether strength leaves out steps ("partial") or runs all from less noise ("full").',
        "source image",
        kinds=EDITED,
        advanced=True,
    )
    resize_mode: str = control(
        "crop",
        Choice(tuple(RESIZE_MODES)),
        "How a source image of another shape is fitted; it is never distorted.",
        "source image",
        kinds=EDITED,
        advanced=True,
    )
    crop_position: tuple[float, float] = control(
        CENTRE,
        Numbers(_UNIT, 2),
        "Which part of a source image of another shape is kept where it is cropped: (across, "
        "down), each from 0, left or top, to 1, right or bottom.",
        "source image",
        kinds=EDITED,
    )
    inversion: str | None = control(
        None,
        Choice(tuple(INVERSIONS)),
        "Invert the source image to noise instead of adding noise; sets the solver of that name.",
        "source image",
        kinds=("img2img",),
        optional=True,
        advanced=True,
    )
    source_prompt: str = control(
        "",
        Text(),
        "What the source image shows, for inversion; empty is the model's null text.",
        "source image",
        kinds=("img2img",),
        advanced=True,
    )
    mask_feather: float = control(
        4.0,
        Real(0.0, 64.0),
        "Pixels over which the repainted region fades into the rest.",
        "in-painting",
        kinds=("inpaint",),
    )
    inpaint_area: str = control(
        "whole",
        Choice(INPAINT_AREAS),
        'What in-painting works on: the "whole" image at the model\'s size, or, "only_masked", the '
        "region around the mask, which goes back into the image at its own size.",
        "in-painting",
        kinds=("inpaint",),
    )
    inpaint_padding: int = control(
        32,
        Integer(0, 1024),
        'Least pixels of the source image around the mask that inpaint_area "only_masked" shows.',
        "in-painting",
        kinds=("inpaint",),
        advanced=True,
    )
    inpaint_upscaler: str = control(
        LANCZOS,
        Choice(INPAINT_UPSCALERS),
        'What enlarges the region of inpaint_area "only_masked" where it is larger than the '
        "model's size.",
        "in-painting",
        kinds=("inpaint",),
        advanced=True,
    )
    num_resamples: int = control(
        1,
        Integer(1, 20),
        "Times each step is repeated (RePaint); above 1 needs a first-order solver.",
        "in-painting",
        kinds=("inpaint",),
        advanced=True,
    )
    outpaint: tuple[int, ...] | None = control(
        None,
        Numbers(Integer(0, MAX_SIDE), 4),
        "New pixels (left, top, right, bottom) around a smaller copy of the source image.",
        "in-painting",
        kinds=("inpaint",),
        optional=True,
    )
    anagram: Sequence[tuple[str, str]] | None = control(
        None,
        Pairs(2, 4, tuple(VIEWS)),
        "Readings of one image: 2 to 4 pairs of a prompt and a view.",
        "anagram",
        kinds=("anagram",),
        optional=True,
    )
    anagram_mode: str = control(
        "latent",
        Choice(ANAGRAM_MODES),
        'One latent ("latent"; "corrected" keeps its variance) or one per view, synchronised in '
        'pixels ("pixel").',
        "anagram",
        kinds=("anagram",),
        advanced=True,
    )
    controlnet: str | None = control(
        None,
        Text(1000),
        "Stable Diffusion: a ControlNet that follows control_image, by name, folder, file or hub "
        "id.",
        "control",
        kinds=PROMPTED,
        optional=True,
    )
    controlnet_conditioning_scale: float = control(
        1.0,
        Real(0.0, 2.0),
        "How strongly the ControlNet acts; 0 not at all.",
        "control",
        kinds=PROMPTED,
    )
    control_guidance_start: float = control(
        0.0,
        _UNIT,
        "Share of the steps after which the ControlNet begins to act.",
        "control",
        kinds=PROMPTED,
        advanced=True,
    )
    control_guidance_end: float = control(
        1.0,
        _UNIT,
        "Share of the steps after which the ControlNet no longer acts.",
        "control",
        kinds=PROMPTED,
        advanced=True,
    )
    control_preprocessor: str | None = control(
        None,
        Choice(PREPROCESSORS),
        "What is made of control_image before the ControlNet sees it; None is nothing.",
        "control",
        kinds=PROMPTED,
        optional=True,
    )
    hires_size: tuple[int, int] | None = control(
        None,
        Numbers(_SIDE, 2),
        "Height and width in pixels of a second pass, which enlarges the latents of the first, "
        "adds noise and samples them again; None makes no second pass.",
        "second pass",
        kinds=("txt2img",),
        optional=True,
        advanced=True,
    )
    hires_method: str = control(
        "bilinear",
        Choice(HIRES_METHODS),
        "How the second pass enlarges latents.",
        "second pass",
        kinds=("txt2img",),
        advanced=True,
    )
    hires_strength: float = control(
        0.7,
        _UNIT,
        "How much the second pass may change the enlarged latents: 0 keeps them, 1 ignores them.",
        "second pass",
        kinds=("txt2img",),
        advanced=True,
    )
    hires_steps: int | None = control(
        None,
        Integer(1, MAX_STEPS),
        "Steps of the second pass, of which hires_strength leaves out the first ones; None is "
        "num_inference_steps.",
        "second pass",
        kinds=("txt2img",),
        optional=True,
        advanced=True,
    )
    decoder: str = control(
        "vae",
        Choice(DECODERS),
        'What decodes the finished latents: the model\'s autoencoder, or its "taesd", which is '
        "quicker and loses some detail.",
        "output",
        advanced=True,
    )
    vae_tiling: bool = control(
        False,
        Boolean(),
        "Encode and decode pictures of more than 64 latent cells a side in overlapping tiles: less "
        "memory, and slight differences.",
        "output",
        advanced=True,
    )
    upscale: int | None = control(
        None,
        Choice(UPSCALES),
        "Enlarge the finished images by this factor; 1 enhances them at their size, None does not.",
        "output",
        kinds=declaration.KINDS,
        optional=True,
        kind_defaults={"upscale": 4},
    )
    upscaler: str = control(
        "x4plus",
        Choice(tuple(UPSCALERS)),
        "The network that enlarges.",
        "output",
        kinds=declaration.KINDS,
    )

    def __post_init__(self) -> None:
        for name, declared in declaration.of(type(self)).items():
            object.__setattr__(self, name, declared.checked(getattr(self, name)))
        if self.autoguidance_scale != 1.0 and self.autoguidance_model is None:
            raise ParameterError("autoguidance_scale", "other than 1 needs autoguidance_model")
        if self.guidance_interval is not None:
            low, high = self.guidance_interval
            check(
                low <= high, "guidance_interval", "(low, high) with low at most high", (low, high)
            )
        if self.inpaint_area == "only_masked" and self.outpaint is not None:
            raise ParameterError("inpaint_area", "'only_masked' needs mask, not outpaint")
        if self.hires_size is not None and self.anagram is not None:
            raise ParameterError("hires_size", "cannot be combined with anagram")
        if self.variation_strength > 0 and (self.anagram is not None or self.inversion is not None):
            raise ParameterError(
                "variation_strength", "above 0 needs one initial noise: no anagram, no inversion"
            )
        start, end = self.control_guidance_start, self.control_guidance_end
        check(start < end, "control_guidance_start", "below control_guidance_end", start)
        if self.inversion is not None:
            object.__setattr__(self, "solver", INVERSIONS[self.inversion])
            object.__setattr__(self, "eta", 0.0)
        if self.num_resamples > 1 and self.solver not in FIRST_ORDER:
            allowed = ", ".join(FIRST_ORDER)
            raise ParameterError("num_resamples", f"above 1 needs solver to be one of {allowed}")
        if self.num_resamples * self.num_inference_steps > MAX_ROWS:
            raise ParameterError(
                "num_resamples", f"times num_inference_steps must be at most {MAX_ROWS}"
            )


def for_model(
    model: Model,
    weights: str = "ema",
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    solver: str | None = None,
    **given: Any,
) -> Settings:
    """The settings of a call: explicit ones, then the defaults for these weights, then ours.

    Args:
        model: whose config.json holds the defaults for a set of weights under "sampling"; see
            `dg2_jax.models.folder.SAMPLING`.
        weights: the set.
        num_inference_steps: a field of `Settings`, as are the next two; None is not given.
        guidance_scale: see there.
        solver: see there.
        given: the other fields; None is not given.

    Raises:
        ParameterError: naming the parameter and what is allowed.
    """
    declaration.check_names(given, declaration.of(Settings), "Pipeline")
    facts = facts_of(model)
    facts.check_weights(weights)
    given |= {
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "solver": solver,
    }
    explicit = {name: value for name, value in given.items() if value is not None}
    settings = Settings(weights=weights, **{**facts.sampling.get(weights, {}), **explicit})
    facts.check(settings)
    return settings
