"""Published DiffusionGen2 checkpoints (`.pt`): the UNet's weights, its settings, its schedule."""

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from dg2_jax import schedules
from dg2_jax.interop.torch_checkpoint import CheckpointError, Record, read_torch
from dg2_jax.interop.weights import load_params
from dg2_jax.nn.dg2_unet import DG2UNet, DG2UNetConfig
from dg2_jax.schedules import Schedule
from dg2_jax.typing import Context, Latent, Time

_PREDICTION_TYPES = {
    "velocity": "v_prediction",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "epsilon": "epsilon",
    "eps": "epsilon",
    "noise": "epsilon",
    "x0": "sample",
    "sample": "sample",
}
# Buffers beside the UNet: the schedule, as tables of length T.
_BUFFERS = ("beta", "alpha", "alpha_bar", "sqrt_alpha_bar", "sqrt_one_minus_alpha_bar")
_SCHEDULE_TOLERANCE = 1e-5  # the published tables are cumulative products in float32
# Field of DG2UNetConfig: its name in the file's UNetConfig.
_UNET_FIELDS = {
    "in_channels": "in_channels",
    "channels": "channels",
    "n_layers": "n_layers",
    "n_bn": "n_bn",
    "n_groups": "n_groups",
    "n_heads": "n_heads",
    "n_embd": "n_embd",
    "t_embd": "t_embd",
    "t_embd_scale": "t_embd_scale",
    "num_train_timesteps": "T",
    "dropout": "dropout",
}
_OPTIONAL = {"in_channels", "num_train_timesteps", "dropout", "n_embd"}


@dataclass(frozen=True)
class DiffusionSettings:
    """The diffusion process that the weights were trained with, in this library's terms."""

    schedule: str = "curved"
    prediction_type: str = "epsilon"
    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    s: float = 0.008


@dataclass(frozen=True)
class Settings:
    """What the file's configuration says."""

    unet: DG2UNetConfig
    diffusion: DiffusionSettings


@dataclass(frozen=True, eq=False)
class DiffusionGen2:
    """An imported checkpoint.

    Attributes:
        config: settings of the UNet and of the diffusion.
        schedule: ᾱ_t; its `name` is what `schedules.make` takes, or "imported" where the file's
            tables follow none of the named schedules.
        prediction_type: a name of `dg2_jax.prediction`.
        graphdef: the UNet without its parameters, for `flax.nnx.merge`.
        raw: parameters as trained.
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
        states: "raw" and, where the file has it, "ema": name to memory-mapped array.
    """

    config: Settings
    schedule: Schedule
    states: dict[str, dict[str, np.ndarray]]

    def unet(self, which: str) -> DG2UNet:
        """The UNet with the weights `which` ("raw" or "ema").

        Raises:
            CheckpointError: listing tensors without a parameter and parameters without a tensor.
        """
        unet = nnx.eval_shape(lambda: DG2UNet(self.config.unet, rngs=nnx.Rngs(0)))
        tensors = {
            key: value.reshape(-1) if key == "unet.time_embd_layer.te" else value
            for key, value in self.states[which].items()
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
    ema = nnx.state(file.unet("ema")) if "ema" in file.states else raw
    return DiffusionGen2(file.config, file.schedule, graphdef, raw, ema)


def open_checkpoint(path: str | os.PathLike) -> CheckpointFile:
    """Read and check everything of a published checkpoint but the weights; raises as `load`."""
    content = read_torch(path)
    if not isinstance(content, dict) or "model_state_dict" not in content:
        raise CheckpointError(f"{path}: not a DiffusionGen2 checkpoint (no model_state_dict)")
    try:
        states = {"raw": _state_dict(content, "model_state_dict")}
        if content.get("ema_state_dict"):
            states["ema"] = _state_dict(content, "ema_state_dict")
        config = _settings(content.get("config"))
        schedule = _schedule(config.diffusion, states["raw"])
        for state in states.values():
            _check_buffers(state, schedule)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return CheckpointFile(config, schedule, states)


def parameter_name(key: str) -> str | None:
    """The module's name of a tensor of the state dict, or None for the schedule's buffers."""
    if key in _BUFFERS:
        return None
    name = key.removeprefix("unet.") if key.startswith("unet.") else f"outside unet: {key}"
    name = name.replace("time_embd_layer.te", "time_table")
    name = re.sub(r"^time_mlp\.0\.", "time_mlp.linear1.", name)
    name = re.sub(r"^time_mlp\.2\.", "time_mlp.linear2.", name)
    name = re.sub(r"(resnet_layers\.\d+|final_layer)\.0\.", r"\1.norm.", name)
    return re.sub(r"(resnet_layers\.\d+|final_layer)\.2\.", r"\1.conv.", name)


def _state_dict(content: dict, name: str) -> dict[str, np.ndarray]:
    state = content[name]
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, np.ndarray) for k, v in state.items()
    ):
        raise CheckpointError(f"{name} must map names to tensors")
    # torch.compile and DataParallel each put a word of their own before or inside the names.
    return {re.sub(r"(^|\.)(_orig_mod\.|module\.)+", r"\1", k): v for k, v in state.items()}


def _section(config: Any, name: str) -> Mapping[str, Any]:
    """A part of the file's configuration as a mapping, be it a record or a dictionary."""
    value = config.get(name) if isinstance(config, Record | dict) else None
    if isinstance(value, Record):
        parts = value.state if isinstance(value.state, tuple) else (value.state,)
        return {k: v for part in parts if isinstance(part, dict) for k, v in part.items()}
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> Any:
    """The value of a pickled enumeration member; anything else as it is."""
    if isinstance(value, Record) and len(value.args) == 1:
        return _plain(value.args[0])
    return value


def _settings(config: Any) -> Settings:
    unet, diffusion = _section(config, "unet"), _section(config, "diffusion")
    missing = [n for f, n in _UNET_FIELDS.items() if n not in unet and f not in _OPTIONAL]
    if missing:
        raise CheckpointError(f"the configuration lacks unet.{', unet.'.join(missing)}")
    fields = {f: _plain(unet[n]) for f, n in _UNET_FIELDS.items() if n in unet}
    if isinstance(fields["channels"], list):
        fields["channels"] = tuple(fields["channels"])
    steps = _plain(diffusion.get("T", fields.get("num_train_timesteps", 1000)))
    prediction = _plain(diffusion.get("prediction_type", "epsilon"))
    schedule = _plain(diffusion.get("schedule", "curved"))
    if not isinstance(prediction, str) or prediction not in _PREDICTION_TYPES:
        raise CheckpointError(
            f"diffusion.prediction_type must be one of {', '.join(_PREDICTION_TYPES)}; "
            f"got {prediction!r}"
        )
    if not isinstance(schedule, str):
        raise CheckpointError(f"diffusion.schedule must be text, got {schedule!r}")
    try:
        fields.setdefault("num_train_timesteps", steps)
        unet_config = DG2UNetConfig(**{**fields, "legacy_time_table": True})
        settings = DiffusionSettings(
            schedule=schedule,
            prediction_type=_PREDICTION_TYPES[prediction],
            num_train_timesteps=steps,
            beta_start=float(_plain(diffusion.get("beta1", 0.00085))),
            beta_end=float(_plain(diffusion.get("beta2", 0.012))),
            s=float(_plain(diffusion.get("s", 0.008))),
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the configuration is unusable: {error}") from error
    if type(steps) is not int or steps != unet_config.num_train_timesteps or steps < 2:
        raise CheckpointError(
            f"diffusion.T ({steps!r}) and unet.T ({unet_config.num_train_timesteps}) must be one "
            "integer of at least 2"
        )
    return Settings(unet_config, settings)


def _schedule(settings: DiffusionSettings, state: Mapping[str, np.ndarray]) -> Schedule:
    """The schedule by name if the file's tables agree with it, else the file's own."""
    steps = settings.num_train_timesteps
    betas = (settings.beta_start, settings.beta_end)
    # A name stands for its default figures, so others are the file's own schedule.
    usual = betas == (0.00085, 0.012)
    known = None
    if settings.schedule == "cosine":
        known = schedules.cosine_legacy(steps)
    elif settings.schedule in ("linear", "curved"):
        make = schedules.linear if settings.schedule == "linear" else schedules.curved
        known = (
            make(steps, *betas) if usual else Schedule("imported", make(steps, *betas).alpha_bar)
        )
    held = state.get("alpha_bar")
    if held is None:
        if known is None:
            raise CheckpointError(f"diffusion.schedule {settings.schedule!r} is not known")
        return known
    table = np.asarray(held, np.float64)
    if table.shape != (steps,) or not np.all((table >= 0) & (table <= 1)):
        raise CheckpointError(f"alpha_bar must be {steps} numbers in [0, 1]")
    if known is not None and np.allclose(known.alpha_bar, table, rtol=0, atol=_SCHEDULE_TOLERANCE):
        return known
    return Schedule("imported", table)


def _check_buffers(state: Mapping[str, np.ndarray], schedule: Schedule) -> None:
    """The five tables must tell of one and the same schedule."""
    expected = {
        "alpha_bar": schedule.alpha_bar,
        "sqrt_alpha_bar": schedule.alpha,
        "sqrt_one_minus_alpha_bar": schedule.sigma,
    }
    for name in _BUFFERS:
        if name in state and state[name].shape != schedule.alpha_bar.shape:
            raise CheckpointError(f"{name} must have shape {schedule.alpha_bar.shape}")
    for name, values in expected.items():
        if name in state and not np.allclose(state[name], values, rtol=0, atol=1e-3):
            raise CheckpointError(f"{name} contradicts the schedule {schedule.name!r}")
