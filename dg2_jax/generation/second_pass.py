"""The second pass of a call: its latents, enlarged, are noised and sampled again."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from dg2_jax.diffusion import sampling
from dg2_jax.generation import editing
from dg2_jax.generation import plan as planning
from dg2_jax.generation.inputs import Inputs, Source
from dg2_jax.generation.plan import Plan
from dg2_jax.models.model import Model
from dg2_jax.pictures.image_input import ImageSource
from dg2_jax.settings import Settings
from dg2_jax.typing import Keys, Latent


class SecondPass(NamedTuple):
    """What all batches of a call share in their second pass.

    Attributes:
        plan: of it, whose size is that of the finished pictures.
        source: where it starts, but for the latents.
        control_image: that a ControlNet follows: (1, H, W, 3) in [0, 1]; None without.
    """

    plan: Plan
    source: Source
    control_image: Float[np.ndarray, "1 H W 3"] | None = None

    @property
    def num_steps(self) -> int:
        """Its steps; 0 where it only enlarges."""
        return self.plan.num_steps if self.plan.num_rows else 0

    def inputs(self, first: Inputs, latents: Latent) -> tuple[Plan, Inputs]:
        """What the program takes of a batch, and the plan it is for.

        Args:
            first: what it took in the first pass.
            latents: which came of that.
        """
        plan, method = self.plan, self.plan.settings.hires_method
        start = enlarged(latents, plan.latent_shape[:2], method)
        weights = np.asarray(first.guidance.prompt_weights)
        plan = planning.with_null_text(plan) if weights.shape[1] > 1 else plan
        source = self.source._replace(start=start)
        keys = _other(first.keys)
        return plan, plan.inputs(source, first.text, weights, keys, self.control_image)


def settings_of(settings: Settings) -> Settings:
    """The settings of the second pass of a call, as those of an edit at its size."""
    assert settings.hires_size is not None
    height, width = settings.hires_size
    return dataclasses.replace(
        settings,
        height=height,
        width=width,
        num_inference_steps=settings.hires_steps or settings.num_inference_steps,
        strength=settings.hires_strength,
        strength_mode="partial",
        hires_size=None,
    )


def prepare(model: Model, plan: Plan, control_image: ImageSource | None) -> SecondPass:
    """The second pass of a call from its plan, which is that of an edit by `settings_of`."""
    alpha, sigma = jax.device_put((np.float32(plan.start_alpha), np.float32(plan.start_sigma)))
    source = editing.encode(model, plan, None)._replace(alpha=alpha, sigma=sigma)
    return SecondPass(plan, source, editing.load_control(control_image, plan))


@functools.partial(jax.jit, static_argnums=(1, 2))
def enlarged(
    latents: Latent, shape: tuple[int, int], method: str
) -> Float[Array, "b larger_h larger_w c"]:
    """Latents that fill a height and width, undistorted; what is beyond is cut evenly.

    Args:
        latents: to enlarge.
        shape: height and width in latent cells.
        method: one of `settings.HIRES_METHODS`.
    """
    number, height, width, channels = latents.shape
    scale = max(shape[0] / height, shape[1] / width)
    rows, columns = max(shape[0], round(height * scale)), max(shape[1], round(width * scale))
    larger = jax.image.resize(latents, (number, rows, columns, channels), method)
    top, left = (rows - shape[0]) // 2, (columns - shape[1]) // 2
    return larger[:, top : top + shape[0], left : left + shape[1]]


@jax.jit
def _other(keys: Keys) -> Keys:
    """Keys of the same images, for noise that is not that of the first pass."""
    return jax.vmap(lambda key: jax.random.fold_in(key, sampling.SECOND_PASS))(keys)
