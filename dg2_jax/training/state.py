"""What a training run carries from step to step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

Params = Any  # nested dicts of float32 arrays: `nnx.to_pure_dict` of a module's state


class TrainState(NamedTuple):
    """The whole state of a run, a plain pytree; together with the data position it resumes exactly.

    Attributes:
        step: how many updates have been made, int32.
        params: the weights as trained ("raw").
        ema: their moving average.
        opt_state: the optimiser's.
    """

    step: Int[Array, ""]
    params: Params
    ema: Params
    opt_state: Any


def create(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step; the average starts as a copy of the weights."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=jax.tree.map(jnp.copy, params),  # a copy, since the step donates both
        opt_state=optimizer.init(params),
    )
