"""A linear toy problem that the real step, loop and loader run in milliseconds."""

import jax.numpy as jnp
import numpy as np

from dg2_jax.data.loader import Loader
from dg2_jax.training import loop, optimizer, state, step
from dg2_jax.training.config import EmaConfig, LoopConfig, OptimConfig, RunConfig

TRUE_WEIGHTS = np.array([1.0, -2.0, 0.5], np.float32)


class Points:
    """y = x · w on 50 fixed points."""

    def __init__(self):
        self.x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index], "y": self.x[index] @ TRUE_WEIGHTS}


def loss_fn(params, batch, key):
    error = batch["x"] @ params["w"] + params["b"] - batch["y"]
    return jnp.mean(jnp.square(error)), {}


def make_config(**loop_values) -> RunConfig:
    values = {"log_every": 1, "checkpoint_every": 5, "validate_every": 0, "wandb": "disabled"}
    return RunConfig(
        num_steps=20,
        batch_size=8,
        seed=3,
        optim=OptimConfig(learning_rate=0.3, warmup_steps=2, weight_decay=0.0),
        ema=EmaConfig(decay=0.9),
        loop=LoopConfig(**(values | loop_values)),
    )


def make_state(config):
    params = {"w": jnp.zeros(3), "b": jnp.zeros(())}
    return state.create(params, optimizer.make(config.optim, config.num_steps))


def make_loader(config, **kwargs):
    return Loader(Points(), config.batch_size, seed=config.seed, **kwargs)


def run(workdir, config=None, loss=loss_fn, loader=None, progress=False, **kwargs):
    config = config or make_config()
    return loop.train(
        make_state(config),
        step.make_train_step(loss, config),
        loader or make_loader(config),
        config,
        workdir,
        progress=progress,
        **kwargs,
    )
