"""The shapes of a run, computed from its configuration without any weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dg2_jax.models.model import Network
from dg2_jax.nn.scaling import Scaling
from dg2_jax.training import runs, starting, step
from dg2_jax.training.state import TrainState


class AbstractRun(NamedTuple):
    """A run's network, loss and state, whose leaves are shapes.

    Attributes:
        network: the denoiser.
        loss: `step.diffusion_loss`, of an autoencoder with a scaling factor of 1.
        state: the shapes of its state.
        batch: the shapes of a batch.
    """

    network: Network
    loss: step.DrawnLoss
    state: TrainState
    batch: dict[str, jax.ShapeDtypeStruct]


def abstract_run(config: runs.DenoiserRunConfig, side: int, batch_size: int = 0) -> AbstractRun:
    """The shapes of a run.

    Args:
        config: the run.
        side: of its square latents.
        batch_size: if not 0, replaces the configuration's.
    """
    network, params = starting.abstract_denoiser(config)
    state = jax.eval_shape(
        lambda p: starting.initial_state(config, p), jax.tree.map(_shape, params)
    )
    rows = batch_size or config.batch_size
    width = config.architecture.context_dim(config.denoiser)
    latent = jax.ShapeDtypeStruct((rows, side, side, config.denoiser.in_channels), jnp.float16)
    batch = {
        "mean": latent,
        "logvar": latent,
        "context": jax.ShapeDtypeStruct((rows, config.max_length, width), jnp.float16),
        "mask": jax.ShapeDtypeStruct((rows, config.max_length), jnp.bool_),
    }
    loss = step.diffusion_loss(network, config.diffusion, Scaling())
    return AbstractRun(network, loss, state, batch)


def _shape(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
