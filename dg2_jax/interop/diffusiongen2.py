"""Published DiffusionGen2 checkpoints (`.pt`): the UNet's weights, its settings, its schedule."""

import functools
import os
import re
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from dg2_jax.diffusion.schedules import Schedule
from dg2_jax.interop.dg2_settings import (
    BUFFERS,
    Settings,
    check_buffers,
    read_schedule,
    read_settings,
)
from dg2_jax.interop.torch_checkpoint import CheckpointError, read_torch
from dg2_jax.interop.weights import load_params, unwrapped
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.dg2_unet import DG2UNet
from dg2_jax.typing import Context, Latent, Time

_AVERAGED = "n_averaged"  # a count that PyTorch's AveragedModel keeps beside the weights
_STATES = {"raw": "model_state_dict", "ema": "ema_state_dict"}


@dataclass(frozen=True, eq=False)
class DiffusionGen2:
    """An imported checkpoint.

    Attributes:
        config: settings of the UNet and of the diffusion.
        schedule: ᾱ_t; its `name` is what `schedules.make` takes, or "imported" where the file's
            tables follow none of the named schedules.
        prediction_type: a name of `dg2_jax.diffusion.prediction`.
        graphdef: the UNet without its parameters, for `flax.nnx.merge`.
        raw: parameters as trained (their average where the file has nothing else).
        ema: their moving average (the raw ones where the file has none).
    """

    config: Settings
    schedule: Schedule
    graphdef: nnx.GraphDef
    raw: nnx.State
    ema: nnx.State

    @property
    def prediction_type(self) -> str:
        """What the network predicts."""
        return self.config.diffusion.prediction_type

    def apply(self, params: nnx.State, x: Latent, t: Time, context: Context) -> Latent:
        """The UNet's output.

        Args:
            params: `raw` or `ema`.
            x: noisy latents (b, h, w, c).
            t: timesteps (b,), integers in [0, T).
            context: text tokens (b, l, n_embd).
        """
        return _apply(self.graphdef, params, x, t, context)


@functools.partial(jax.jit, static_argnums=0)
def _apply(graphdef: nnx.GraphDef, params: Any, x: Any, t: Any, context: Any) -> Any:
    unet = nnx.merge(graphdef, params)
    return unet(x, t, unet.project_context(context))


@dataclass(frozen=True, eq=False)
class CheckpointFile:
    """A checkpoint whose weights are still in the file.

    Attributes:
        config: settings of the UNet and of the diffusion.
        schedule: as in `DiffusionGen2`.
        states: "raw", "ema" or both: name to memory-mapped array.
    """

    config: Settings
    schedule: Schedule
    states: dict[str, dict[str, np.ndarray]]

    def unet(self, which: str) -> DG2UNet:
        """The UNet with the weights `which` ("raw" or "ema"), or with those that there are.

        Raises:
            CheckpointError: listing tensors without a parameter and parameters without a tensor.
        """
        unet = abstract(lambda rngs: DG2UNet(self.config.unet, rngs=rngs))
        tensors = {
            key: value.reshape(-1) if key == "unet.time_embd_layer.te" else value
            for key, value in self.states.get(which, next(iter(self.states.values()))).items()
        }
        try:
            load_params(unet, tensors, parameter_name)
        except ValueError as error:
            raise CheckpointError(f"{which} weights: {error}") from error
        return unet


def load(path: str | os.PathLike) -> DiffusionGen2:
    """Read a published checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, of another model, or its keys and the model's parameters
            do not match one to one (the message lists those that do not).
    """
    file = open_checkpoint(path)
    graphdef, raw = nnx.split(file.unet("raw"))
    ema = nnx.state(file.unet("ema")) if len(file.states) > 1 else raw
    return DiffusionGen2(file.config, file.schedule, graphdef, raw, ema)


def open_checkpoint(path: str | os.PathLike) -> CheckpointFile:
    """Read and check everything of a published checkpoint but the weights; raises as `load`."""
    content = read_torch(path)
    held = {name: key for name, key in _STATES.items() if _holds(content, key)}
    if not held:
        raise CheckpointError(
            f"{path}: not a DiffusionGen2 checkpoint (no {' and no '.join(_STATES.values())})"
        )
    try:
        states = {name: _state_dict(content, key) for name, key in held.items()}
        config = read_settings(content.get("config"))
        schedule = read_schedule(config.diffusion, next(iter(states.values())))
        for state in states.values():
            check_buffers(state, schedule)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return CheckpointFile(config, schedule, states)


def _holds(content: Any, key: str) -> bool:
    return isinstance(content, dict) and bool(content.get(key))


def parameter_name(key: str) -> str | None:
    """The module's name of a tensor of the state dict, or None for the schedule's buffers."""
    if key in BUFFERS:
        return None
    name = key.removeprefix("unet.") if key.startswith("unet.") else f"outside unet: {key}"
    name = name.replace("time_embd_layer.te", "time_table")
    name = re.sub(r"^time_mlp\.0\.", "time_mlp.linear1.", name)
    name = re.sub(r"^time_mlp\.2\.", "time_mlp.linear2.", name)
    name = re.sub(r"(resnet_layers\.\d+|final_layer)\.0\.", r"\1.norm.", name)
    return re.sub(r"(resnet_layers\.\d+|final_layer)\.2\.", r"\1.conv.", name)


def _state_dict(content: dict, name: str) -> dict[str, np.ndarray]:
    state = content[name]
    if isinstance(state, dict):
        state = {key: value for key, value in state.items() if key != _AVERAGED}
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, np.ndarray) for k, v in state.items()
    ):
        raise CheckpointError(f"{name} must map names to tensors")
    return {unwrapped(name): value for name, value in state.items()}
