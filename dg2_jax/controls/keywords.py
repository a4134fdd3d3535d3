"""The controls as keyword arguments, for type checkers.

`python -m scripts.write_keywords` writes this file from the declarations in `dg2_jax.settings`.
"""

from collections.abc import Sequence
from typing import TypedDict


class SamplerControls(TypedDict, total=False):
    """What `Pipeline.sampler` takes besides the parameters that it names."""

    eta: float
    """Noise that DDIM adds per step: 0 none, 1 as DDPM."""
    spacing: str | None
    """Spacing of the steps: even in time, or in noise; None is the default of the model's
    schedule."""
    variation_seed: int
    """Seed of the noise that variation_strength moves every picture towards."""
    variation_strength: float
    """How far the initial noise is moved from that of the seed to that of variation_seed: 0 stays,
    1 is there."""
    guidance_rescale: float
    """How much of the contrast that guidance adds is taken back, 0 to 1."""
    guidance_interval: tuple[float, float] | None
    """Noise levels (low, high) between which guidance acts, 0 clean to 1 noise; None for all."""
    apg_eta: float
    """Adaptive projected guidance: share of the part parallel to the image; 1 is plain."""
    apg_norm_threshold: float | None
    """Adaptive projected guidance: greatest norm of a guidance step; None for no limit."""
    apg_momentum: float
    """Adaptive projected guidance: momentum between steps; below 0 damps, 0 is plain."""
    autoguidance_model: str | None
    """A weaker model to move away from, such as the folder of an earlier checkpoint."""
    autoguidance_scale: float
    """Strength of autoguidance; 1 does not use it, above 1 needs autoguidance_model."""
    reuse_every: int
    """Run the UNet's deep levels at every n-th row of the solver only; above 1 is quicker, at some
    cost of quality."""
    height: int | None
    """Height in pixels; None is the model's own size."""
    width: int | None
    """Width in pixels; None is the model's own size."""
    original_size: tuple[int, int] | None
    """Stable Diffusion XL: height and width that the picture is to look scaled from; None is its
    own size."""
    crops_coords_top_left: tuple[int, int] | None
    """Stable Diffusion XL: rows and columns that the picture is to look cropped by; None is 0,0."""
    target_size: tuple[int, int] | None
    """Stable Diffusion XL: height and width that the picture is to look made for; None is its own
    size."""


class Controls(SamplerControls, total=False):
    """What `Pipeline` takes besides the parameters that it names."""

    clip_skip: int
    """Stable Diffusion: layers of the text encoder that are left out at its end."""
    strength: float
    """How much the source image may change: 0 keeps it, 1 ignores it."""
    strength_mode: str
    """Whether strength leaves out steps ("partial") or runs all from less noise ("full")."""
    resize_mode: str
    """How a source image of another shape is fitted; it is never distorted."""
    crop_position: tuple[float, float]
    """Which part of a source image of another shape is kept where it is cropped: (across, down),
    each from 0, left or top, to 1, right or bottom."""
    inversion: str | None
    """Invert the source image to noise instead of adding noise; sets the solver of that name."""
    source_prompt: str
    """What the source image shows, for inversion; empty is the model's null text."""
    mask_feather: float
    """Pixels over which the repainted region fades into the rest."""
    inpaint_area: str
    """What in-painting works on: the "whole" image at the model's size, or, "only_masked", the
    region around the mask, which goes back into the image at its own size."""
    inpaint_padding: int
    """Least pixels of the source image around the mask that inpaint_area "only_masked" shows."""
    inpaint_upscaler: str
    """What enlarges the region of inpaint_area "only_masked" where it is larger than the model's
    size."""
    num_resamples: int
    """Times each step is repeated (RePaint); above 1 needs a first-order solver."""
    outpaint: tuple[int, int, int, int] | None
    """New pixels (left, top, right, bottom) around a smaller copy of the source image."""
    anagram: Sequence[tuple[str, str]] | None
    """Readings of one image: 2 to 4 pairs of a prompt and a view."""
    anagram_mode: str
    """One latent ("latent"; "corrected" keeps its variance) or one per view, synchronised in pixels
    ("pixel")."""
    controlnet: str | None
    """Stable Diffusion: a ControlNet that follows control_image, by name, folder, file or hub
    id."""
    controlnet_conditioning_scale: float
    """How strongly the ControlNet acts; 0 not at all."""
    control_guidance_start: float
    """Share of the steps after which the ControlNet begins to act."""
    control_guidance_end: float
    """Share of the steps after which the ControlNet no longer acts."""
    control_preprocessor: str | None
    """What is made of control_image before the ControlNet sees it; None is nothing."""
    hires_size: tuple[int, int] | None
    """Height and width in pixels of a second pass, which enlarges the latents of the first, adds
    noise and samples them again; None makes no second pass."""
    hires_method: str
    """How the second pass enlarges latents."""
    hires_strength: float
    """How much the second pass may change the enlarged latents: 0 keeps them, 1 ignores them."""
    hires_steps: int | None
    """Steps of the second pass, of which hires_strength leaves out the first ones; None is
    num_inference_steps."""
    decoder: str
    """What decodes the finished latents: the model's autoencoder, or its "taesd", which is quicker
    and loses some detail."""
    vae_tiling: bool
    """Encode and decode pictures of more than 64 latent cells a side in overlapping tiles: less
    memory, and slight differences."""
    upscale: int | None
    """Enlarge the finished images by this factor; 1 enhances them at their size, None does not."""
    upscaler: str
    """The network that enlarges."""
