"""What a run trains: a whole network, or low-rank adapters of it."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax

from dg2_jax.data.loader import Batch
from dg2_jax.models import lora
from dg2_jax.models.model import Params
from dg2_jax.training.config import RunConfig
from dg2_jax.training.state import TrainState
from dg2_jax.training.step import DrawnLoss, LossFn, Metrics, StepFn, make_train_step


class Tuning(NamedTuple):
    """A way to train.

    Attributes:
        params: the parameters that are trained, averaged and saved.
        weights: maps them to the network's parameters.
        make_step: (loss of the network's parameters, run) to its training step.
    """

    params: Params
    weights: Callable[[Params], Params]
    make_step: Callable[[LossFn, RunConfig], StepFn]


def full(params: Params) -> Tuning:
    """Trains every parameter."""
    return Tuning(params, lambda trained: trained, make_train_step)


def adapters(
    params: Params,
    config: lora.LoraConfig,
    seed: int,
    architecture: str,
    more: tuple[str, ...] = (),
) -> Tuning:
    """Trains new adapters; the network's own parameters do not change.

    Args:
        params: of the network.
        config: of the adapters.
        seed: of the adapters.
        architecture: of the network, a name in `dg2_jax.models.architectures.ARCHITECTURES`.
        more: further layers, see `lora.layers`.

    Raises:
        ValueError: see `lora.create`.
    """
    apply = jax.jit(lora.apply)
    new = lora.create(params, config, seed, architecture, more)
    params = lora.prepared(params, new)

    def make_step(loss_fn: LossFn, run: RunConfig) -> StepFn:
        # The network's parameters are an argument of the compiled step, not constants in it.
        def step(state: TrainState, batch: Batch, params: Params) -> tuple[TrainState, Metrics]:
            loss = _of_trained(loss_fn, lambda trained: lora.apply(params, trained, config.scale))
            return make_train_step(loss, run)(state, batch)

        compiled = jax.jit(step, donate_argnums=0)
        return lambda state, batch: compiled(state, batch, params)

    return Tuning(
        new,
        lambda trained: apply(params, trained, config.scale),
        make_step,
    )


def _of_trained(loss_fn: LossFn, weights: Callable[[Params], Params]) -> LossFn:
    """The loss of the trained parameters; a `DrawnLoss` stays one, so batches can be divided."""
    if isinstance(loss_fn, DrawnLoss):
        return dataclasses.replace(loss_fn, of=_of_trained(loss_fn.of, weights))
    return lambda trained, batch, key: loss_fn(weights(trained), batch, key)
