"""What a training run carries from step to step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Int

from dg2_jax.nn.abstract import abstract

Params = Any  # nested dicts of float32 arrays: `nnx.to_pure_dict` of a module's state


class TrainState(NamedTuple):
    """The whole state of a run, a plain pytree; together with the data position it resumes exactly.

    Attributes:
        step: how many updates have been made, int32.
        params: the weights as trained ("raw").
        ema: their moving average.
        opt_state: the optimiser's.
        averages: further averages, one for each width of `ema.posthoc`.
    """

    step: Int[Array, ""]
    params: Params
    ema: Params
    opt_state: Any
    averages: tuple[Params, ...] = ()


def network(
    make: Callable[[nnx.Rngs], nnx.Module], seed: int, weights: Params | None = None
) -> tuple[nnx.GraphDef, Params]:
    """A network's definition and its first weights.

    New ones are drawn in one compiled program by the device's own generator: threefry is compiled
    anew for every shape, which takes longer than the drawing.

    Args:
        make: makes the module from its random streams.
        seed: of new weights, at least 0.
        weights: to begin with instead of new ones.
    """

    @jax.jit
    def draw() -> Params:
        rngs = nnx.Rngs(jax.random.key(seed, impl="rbg"))
        return nnx.to_pure_dict(nnx.split(make(rngs))[1])

    graphdef = nnx.split(abstract(make))[0]
    return graphdef, draw() if weights is None else weights


def graft(params: Params, donor: Params) -> Params:
    """`params` with those leaves of `donor` that have the same path and shape."""

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
        optimizer: whose state is made.
        averages: how many there are beside the first, as in `ema.posthoc`.
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
