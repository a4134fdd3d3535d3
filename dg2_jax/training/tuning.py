"""What of a network a run trains: all of it, or low-rank adapters beside it."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from dg2_jax import lora
from dg2_jax.config import RunConfig
from dg2_jax.training.state import Params, TrainState
from dg2_jax.training.step import Batch, LossFn, Metrics, StepFn, make_train_step


class Tuning(NamedTuple):
    """A way to train.

    Attributes:
        params: what is trained, averaged and saved.
        weights: from these to the network's parameters.
        make_step: (loss of the network's parameters, run) to its training step.
    """

    params: Params
    weights: Callable[[Params], Params]
    make_step: Callable[[LossFn, RunConfig], StepFn]


def full(params: Params) -> Tuning:
    """Trains every parameter."""
    return Tuning(params, lambda trained: trained, make_train_step)


def adapters(params: Params, config: lora.LoraConfig, seed: int) -> Tuning:
    """Trains new adapters; the network's own parameters stay as they are.

    Args:
        params: of the network.
        config: of the adapters.
        seed: of the adapters.

    Raises:
        ValueError: see `lora.create`.
    """
    apply = jax.jit(lora.apply)

    def make_step(loss_fn: LossFn, run: RunConfig) -> StepFn:
        # The network's parameters are an argument of the compiled step and no constants in it.
        def step(state: TrainState, batch: Batch, params: Params) -> tuple[TrainState, Metrics]:
            def of_adapters(trained: Params, batch: Batch, key: jax.Array):
                return loss_fn(lora.apply(params, trained, config.scale), batch, key)

            return make_train_step(of_adapters, run)(state, batch)

        compiled = jax.jit(step, donate_argnums=0)
        return lambda state, batch: compiled(state, batch, params)

    return Tuning(
        lora.create(params, config, seed),
        lambda trained: apply(params, trained, config.scale),
        make_step,
    )
