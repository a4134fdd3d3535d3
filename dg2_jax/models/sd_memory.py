"""Stable Diffusion in memory: from its networks to what everything here samples with."""

from collections.abc import Mapping
from typing import Any

from dg2_jax.interop.stable_diffusion.model import StableDiffusion
from dg2_jax.models import model as model_lib
from dg2_jax.models.model import Model, Network
from dg2_jax.nn.modules import bound
from dg2_jax.text.stable_diffusion import StableDiffusionText


def create(
    loaded: StableDiffusion, described: Mapping[str, Any]
) -> tuple[Model, StableDiffusionText]:
    """The model, and its text encoder, of what `interop.stable_diffusion` has loaded.

    Args:
        loaded: the networks with their weights.
        described: `stable_diffusion.description` of the same parts.

    Raises:
        ModelError: the networks do not fit each other.
    """
    model = model_lib.create(
        described,
        bound(loaded.vae),
        lambda name, shapes: loaded.params,
        name=loaded.name,
        denoiser=Network(loaded.graphdef),
    )
    return model, StableDiffusionText(loaded.name, loaded.text)
