"""What a DiffusionGen2 checkpoint says of itself: the UNet's shape, the diffusion, the schedule."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dg2_jax.diffusion import schedules
from dg2_jax.diffusion.schedules import Schedule
from dg2_jax.interop.torch_checkpoint import CheckpointError, Record
from dg2_jax.nn.dg2_unet import DG2UNetConfig

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
BUFFERS = ("beta", "alpha", "alpha_bar", "sqrt_alpha_bar", "sqrt_one_minus_alpha_bar")
IMPORTED = "imported"  # the name of a schedule that is none of `schedules.SCHEDULES`
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
# Field of Settings: where the file's DataConfig may name that model.
_PRETRAINED_KEYS = {
    "vae": ("vae_model_id",),
    "text_encoder": ("clip_model_id", "text_model_id", "text_encoder_id"),
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
    """What the file's configuration says.

    Attributes:
        unet: the network.
        diffusion: the process.
        vae: hub id of the autoencoder whose latents it was trained on.
        text_encoder: hub id of the CLIP whose tokens it was trained on.
    """

    unet: DG2UNetConfig
    diffusion: DiffusionSettings
    vae: str = "stabilityai/sd-vae-ft-ema"
    text_encoder: str = "openai/clip-vit-base-patch32"


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


def read_settings(config: Any) -> Settings:
    """The settings in a checkpoint's `config`, be it a record, a dictionary or missing parts.

    Raises:
        CheckpointError: naming the setting that is missing, unusable or contradicts another.
    """
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
    return Settings(unet_config, settings, **_pretrained(_section(config, "data")))


def _pretrained(data: Mapping[str, Any]) -> dict[str, str]:
    """The ids that the file names; published ones name the autoencoder's and no other."""
    ids: dict[str, str] = {}
    for field, keys in _PRETRAINED_KEYS.items():
        for value in (data[key] for key in keys if data.get(key)):
            if not isinstance(value, str):
                raise CheckpointError(f"data.{keys[0]} must be text, got {value!r}")
            ids.setdefault(field, value)
    return ids


def read_schedule(settings: DiffusionSettings, state: Mapping[str, np.ndarray]) -> Schedule:
    """The schedule by name if the file's tables agree with it, else the file's own."""
    steps, known = settings.num_train_timesteps, _named_schedule(settings)
    held = state.get("alpha_bar")
    if held is None:
        if known is None:
            raise CheckpointError(f"diffusion.schedule {settings.schedule!r} is not known")
        return known
    table = np.asarray(held, np.float64)
    if table.shape != (steps,):
        raise CheckpointError(f"alpha_bar must have shape ({steps},), got {table.shape}")
    if known is not None and np.allclose(known.alpha_bar, table, rtol=0, atol=_SCHEDULE_TOLERANCE):
        return known
    try:
        return schedules.from_table(IMPORTED, table)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _named_schedule(settings: DiffusionSettings) -> Schedule | None:
    """What the settings describe, called "imported" where its figures are not the usual ones."""
    steps, betas = settings.num_train_timesteps, (settings.beta_start, settings.beta_end)
    usual = DiffusionSettings()
    match settings.schedule:
        case "cosine":
            described, as_usual = schedules.cosine_legacy(steps, settings.s), settings.s == usual.s
        case "linear" | "curved":
            make = schedules.linear if settings.schedule == "linear" else schedules.curved
            described, as_usual = make(steps, *betas), betas == (usual.beta_start, usual.beta_end)
        case _:
            return None
    return described if as_usual else dataclasses.replace(described, name=IMPORTED)


def check_buffers(state: Mapping[str, np.ndarray], schedule: Schedule) -> None:
    """The five tables must tell of one and the same schedule."""
    expected = {
        "alpha_bar": schedule.alpha_bar,
        "sqrt_alpha_bar": schedule.alpha,
        "sqrt_one_minus_alpha_bar": schedule.sigma,
    }
    for name in BUFFERS:
        if name in state and state[name].shape != schedule.alpha_bar.shape:
            raise CheckpointError(f"{name} must have shape {schedule.alpha_bar.shape}")
    for name, values in expected.items():
        if name in state and not np.allclose(state[name], values, rtol=0, atol=1e-3):
            raise CheckpointError(f"{name} contradicts the schedule {schedule.name!r}")
