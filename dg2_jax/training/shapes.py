"""Runs as shapes alone: what can be known of a configuration before any weight is made."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dg2_jax.models import folder as model
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.precision import with_compute_dtype
from dg2_jax.training import runs, step
from dg2_jax.training.state import TrainState


class AbstractRun(NamedTuple):
    """A run's network, loss and state; the state's leaves are shapes.

    Attributes:
        graphdef: of the denoiser.
        loss: `step.diffusion_loss`, of an autoencoder with a scaling factor of 1.
        state: the shapes of its state.
        batch: the shapes of a batch.
    """

    graphdef: nnx.GraphDef
    loss: step.DrawnLoss
    state: TrainState
    batch: dict[str, jax.ShapeDtypeStruct]


def abstract_run(config: runs.DenoiserRunConfig, side: int, batch_size: int = 0) -> AbstractRun:
    """The shapes of a run.

    Args:
        config: the run.
        side: of its latents, which are square.
        batch_size: another than the configuration's.
    """
    name = model.architecture_name(config.denoiser)
    architecture = model.ARCHITECTURES[name]
    network = abstract(
        lambda rngs: with_compute_dtype(
            architecture.module(config.denoiser, rngs=rngs), config.compute_dtype
        )
    )
    graphdef, params = nnx.split(network)
    state = jax.eval_shape(
        lambda p: runs.initial_state(config, p), jax.tree.map(_shape, nnx.to_pure_dict(params))
    )
    rows, width = (
        batch_size or config.batch_size,
        getattr(config.denoiser, architecture.context_width),
    )
    latent = jax.ShapeDtypeStruct((rows, side, side, config.denoiser.in_channels), jnp.float16)
    batch = {
        "mean": latent,
        "logvar": latent,
        "context": jax.ShapeDtypeStruct((rows, config.max_length, width), jnp.float16),
        "mask": jax.ShapeDtypeStruct((rows, config.max_length), jnp.bool_),
    }
    return AbstractRun(graphdef, step.diffusion_loss(graphdef, config.diffusion, 1.0), state, batch)


def _shape(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
