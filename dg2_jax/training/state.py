"""The state that a training run carries from step to step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Int

from dg2_jax import randomness
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.modules import split
from dg2_jax.nn.network import Network, Params


class TrainState(NamedTuple):
    """The whole state of a run, a plain pytree; together with the data position it resumes exactly.

    Attributes:
        step: the number of updates so far, int32.
        params: the weights as trained ("raw").
        ema: their moving average.
        opt_state: the optimiser's.
        averages: further averages, one per width of `ema.posthoc`.
    """

    step: Int[Array, ""]
    params: Params
    ema: Params
    opt_state: Any
    averages: tuple[Params, ...] = ()


def network(
    build: Callable[[nnx.Rngs], nnx.Module], seed: int, weights: Params | None = None
) -> tuple[Network, Params]:
    """A network and its initial weights.

    New weights are drawn in one compiled program by the device's own generator. Threefry would be
    compiled once per shape, which takes longer than drawing.

    Args:
        build: maps random streams to the module.
        seed: of new weights, at least 0.
        weights: to start from instead of new ones.
    """

    @jax.jit
    @randomness.steady
    def draw() -> Params:
        rngs = nnx.Rngs(jax.random.key(seed, impl="rbg"))
        return split(build(rngs))[1]

    structure, _ = split(abstract(build))
    return structure, draw() if weights is None else weights


def graft(params: Params, donor: Params) -> Params:
    """`params`, with the leaves of `donor` that have the same path and shape."""

    def join(own: Any, other: Any) -> Any:
        if isinstance(own, dict):
            others = other if isinstance(other, dict) else {}
            return {key: join(value, others.get(key)) for key, value in own.items()}
        return other if getattr(other, "shape", None) == own.shape else own

    return join(params, donor)


def create(
    params: Params, optimizer: optax.GradientTransformation, averages: int = 0
) -> TrainState:
    """The state before the first step; the averages start as copies of the weights.

    Args:
        params: the weights.
        optimizer: whose state is created.
        averages: the number of averages beside the first, as in `ema.posthoc`.
    """

    def copy() -> Params:
        return jax.tree.map(jnp.copy, params)  # since the step donates all of them

    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=copy(),
        opt_state=optimizer.init(params),
        averages=tuple(copy() for _ in range(averages)),
    )
