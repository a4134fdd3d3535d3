"""The arguments of the compiled program: everything that changes without recompilation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dg2_jax.diffusion.guidance import Guidance
from dg2_jax.diffusion.sampling import Variation, image_keys
from dg2_jax.diffusion.solver_table import SolverTable
from dg2_jax.diffusion.views import ViewMap
from dg2_jax.generation.text import TextInputs
from dg2_jax.pictures.preview import LatentToRGB
from dg2_jax.settings import Settings
from dg2_jax.typing import Keys, Latent


class Source(NamedTuple):
    """The latents where sampling starts, and the parts of a picture to keep; b is 1 or the batch.

    Attributes:
        start: sampling starts from alpha · start + sigma · noise.
        alpha: 0 for txt2img.
        sigma: 1 for txt2img.
        original: the latents that stay where `change` forbids otherwise.
        change: the change map, see `inpaint.keep_original`; 1 everywhere for txt2img.
        masked: of in-painting models: the mask, and the latents of what it leaves, as they take
            them beside the latents; None of other models.
    """

    start: Latent
    alpha: Float[Array, ""]
    sigma: Float[Array, ""]
    original: Latent
    change: Float[Array, "b h w 1"]
    masked: Float[Array, "b h w _"] | None = None

    @classmethod
    def noise(cls, latent_shape: tuple[int, int, int]) -> "Source":
        """The source of txt2img, the same for all images."""
        zeros = np.zeros((1, *latent_shape), np.float32)
        ones = np.ones((1, *latent_shape[:2], 1), np.float32)
        return cls(*jax.device_put((zeros, np.float32(0.0), np.float32(1.0), zeros, ones)))


class Conditions(NamedTuple):
    """What conditions a network besides texts; networks without use for it ignore it.

    Attributes:
        time_ids: Stable Diffusion XL: height and width of the original, top and left of the crop,
            height and width of the target, in pixels.
        guidance_scale: of networks that take it as an input.
    """

    time_ids: Float[Array, "6"]
    guidance_scale: Float[Array, ""]


class ControlInputs(NamedTuple):
    """What a ControlNet is given; b is 1 or the batch.

    Attributes:
        image: in [0, 1].
        scale: of what it adds.
        first: the noisiest timestep at which it acts.
        last: the least noisy one; above `first` where it never acts.
    """

    image: Float[Array, "b H W 3"]
    scale: Float[Array, ""]
    first: Int[Array, ""]
    last: Int[Array, ""]


class Inputs(NamedTuple):
    """The data of a batch of b images with latents h w c.

    Attributes:
        text: the texts.
        guidance: of each image.
        table: the solver's, padded to a fixed number of rows.
        keys: one per image.
        reuse_every: see `reuse.denoiser`; unused where the program reuses nothing.
        source: where sampling starts.
        views: of an anagram, stacked; of pixels where they are synchronised. None without.
        corrected: whether `anagram.shared_latent` corrects the variance.
        to_rgb: the linear preview.
        conditions: beside the texts.
        control: of a ControlNet; None without.
        variation: of the initial noise; None without.
    """

    text: TextInputs
    guidance: Guidance
    table: SolverTable
    keys: Keys
    reuse_every: Int[Array, ""]
    source: Source
    views: ViewMap | None
    corrected: Bool[Array, ""]
    to_rgb: LatentToRGB
    conditions: Conditions
    control: ControlInputs | None = None
    variation: Variation | None = None


def conditions_of(settings: Settings, size: tuple[int, int]) -> Conditions:
    """The conditions of a call for pictures of this height and width."""
    sizes = (
        settings.original_size or size,
        settings.crops_coords_top_left or (0, 0),
        settings.target_size or size,
    )
    time_ids = np.asarray(sizes, np.float32).reshape(-1)
    return Conditions(*jax.device_put((time_ids, np.float32(settings.guidance_scale))))


def variation_of(settings: Settings) -> Variation | None:
    """How the initial noise of a call is varied."""
    if settings.variation_strength == 0.0:
        return None
    keys = image_keys(jnp.asarray([settings.variation_seed], jnp.uint32))
    return Variation(keys, jax.device_put(np.float32(settings.variation_strength)))


def guidance_of(
    settings: Settings, prompt_weights: Float[np.ndarray, "b p"], is_input: bool = False
) -> Guidance:
    """The guidance of a batch, with the same settings for every image.

    Args:
        settings: of the call.
        prompt_weights: of the prompts that AND joins.
        is_input: whether the network takes the scale as an input, so that nothing else is guided.
    """
    values = {
        "scale": 1.0 if is_input else settings.guidance_scale,
        "rescale": settings.guidance_rescale,
        "eta_parallel": settings.apg_eta,
        "norm_threshold": settings.apg_norm_threshold or np.inf,
        "momentum": settings.apg_momentum,
        "autoguidance_scale": settings.autoguidance_scale,
    }
    arrays = {
        name: np.full(len(prompt_weights), value, np.float32) for name, value in values.items()
    }
    arrays["prompt_weights"] = prompt_weights
    interval = np.asarray(settings.guidance_interval or (0.0, 1.0), np.float32)
    arrays["interval"] = np.tile(interval, (len(prompt_weights), 1))
    return Guidance(**jax.device_put(arrays))
