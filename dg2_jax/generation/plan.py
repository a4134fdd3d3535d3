"""From settings to what the compiled program runs: the steps, where they start, and on what."""

import dataclasses
from typing import NamedTuple

import numpy as np

from dg2_jax.diffusion import inversion, schedules, solvers
from dg2_jax.diffusion.schedules import Schedule
from dg2_jax.diffusion.solvers import SolverTable
from dg2_jax.generation import program
from dg2_jax.generation.editing import Edit
from dg2_jax.generation.program import Program
from dg2_jax.models.folder import Model
from dg2_jax.settings import MAX_ROWS, Settings

_INVERSION_ITERATIONS = 5


class Plan(NamedTuple):
    """What all batches of a call share."""

    settings: Settings
    program: Program
    table: SolverTable
    num_rows: int
    start: np.ndarray  # (1, h, w, c)
    start_alpha: float
    start_sigma: float
    original: np.ndarray  # (1, h, w, c)
    change: np.ndarray  # (h, w)


def make(model: Model, settings: Settings, edit: Edit | None, worse: Model | None) -> Plan:
    """Everything about a call but its prompts and seeds.

    With inversion "ddim" it still starts from the picture itself, see `backwards`.

    Args:
        model: the model.
        settings: of the call.
        edit: the picture that is edited, if any.
        worse: the model of autoguidance, if any.

    Raises:
        ValueError: `reuse_every` is above 1 for a model that has nothing to reuse.
    """
    guidance = "off" if settings.guidance_scale == 1.0 else "always"
    if guidance == "always" and settings.guidance_interval is not None:
        guidance = "interval"
    t = timesteps(model.schedule, settings, edit is not None)
    kind = "plain"
    if settings.anagram is not None:
        kind = "synchronised" if settings.anagram_mode == "pixel" else "shared"
    elif settings.inversion == "ddpm" and len(t):  # without steps there is nothing to follow
        kind = "following"
    _check_reuse(settings, model, worse)
    compiled = Program(
        model.denoiser,
        model.autoencoder if kind == "synchronised" else None,
        model.prediction_type,
        guidance,
        kind,
        worse.denoiser if worse else None,
        settings.reuse_every > 1,
    )
    zeros = np.zeros((1, *model.latent_shape), np.float32)
    plan = Plan(
        settings,
        compiled,
        *_table(model.schedule, settings, t),
        start=zeros,
        start_alpha=0.0,
        start_sigma=1.0,
        original=zeros,
        change=np.ones(model.latent_shape[:2], np.float32),
    )
    if edit is None:
        return plan
    encoded = program.encode(model.autoencoder, model.autoencoder_params, edit.pixels[None])
    original = np.asarray(encoded)
    plan = plan._replace(original=original, start=original, change=edit.change)
    if len(t) == 0:
        return plan._replace(start_alpha=1.0, start_sigma=0.0)
    if settings.strength == 1.0 and kind != "following":
        return plan  # strength 1 is txt2img, wherever the mask allows
    alpha, sigma = model.schedule.alpha[t[0]], model.schedule.sigma[t[0]]
    return plan._replace(start_alpha=float(alpha), start_sigma=float(sigma))


def with_null_text(plan: Plan) -> Plan:
    """The plan for prompts that AND joins: the null text is needed, guided or not."""
    if plan.program.guidance != "off":
        return plan
    return plan._replace(program=dataclasses.replace(plan.program, guidance="always"))


def backwards(model: Model, plan: Plan) -> Plan | None:
    """The plan that turns the original to the noise it comes from, by DDIM; None without steps."""
    if plan.num_rows == 0:
        return None
    t = timesteps(model.schedule, plan.settings, edits=True)
    iterations = max(1, min(_INVERSION_ITERATIONS, MAX_ROWS // len(t)))
    table = inversion.ddim_table(model.schedule, t, iterations)
    return plan._replace(
        settings=dataclasses.replace(
            plan.settings, guidance_scale=1.0, autoguidance_model=None, autoguidance_scale=1.0
        ),
        program=dataclasses.replace(
            plan.program, autoencoder=None, guidance="off", worse=None, reuses=False
        ),
        table=table.padded(MAX_ROWS),
        num_rows=len(table.timestep),
        start=plan.original,
        start_alpha=1.0,
        start_sigma=0.0,
        change=np.ones_like(plan.change),
    )


def _check_reuse(settings: Settings, *models: Model | None) -> None:
    if settings.reuse_every == 1:
        return
    for model in models:
        if model is not None and not model.has_deep_levels:
            raise ValueError(
                f"reuse_every must be 1 with the model {model.name}, whose denoiser is no UNet of "
                f"several levels; got {settings.reuse_every}"
            )


def timesteps(schedule: Schedule, settings: Settings, edits: bool) -> np.ndarray:
    """The visited timesteps, noisiest first; fewer, or none, where a picture is edited."""
    steps, total = settings.num_inference_steps, schedule.num_train_timesteps
    spacing = settings.spacing or schedules.default_spacing(schedule)
    if edits and settings.strength_mode == "full":
        reached = round(settings.strength * total)
        if reached == 0:
            return np.zeros(0, np.int64)
        return schedules.timesteps(min(steps, reached), reached, spacing)
    t = schedules.timesteps(steps, total, spacing)
    return t[steps - int(steps * settings.strength) :] if edits else t


def _table(schedule: Schedule, settings: Settings, t: np.ndarray) -> tuple[SolverTable, int]:
    """The padded table and how many of its rows are real."""
    if len(t) == 0:
        return solvers.make_table("ddim", schedule, np.zeros(1, np.int64)).padded(MAX_ROWS), 0
    table = solvers.make_table(settings.solver, schedule, t, settings.eta)
    if settings.num_resamples > 1:
        table = solvers.resampled(table, settings.num_resamples)
    if settings.inversion == "ddpm":
        table = solvers.without_noise(table)
    return table.padded(MAX_ROWS), len(table.timestep)
