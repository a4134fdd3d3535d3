"""The plan of a call, made from its settings: size, steps and program; data only."""

import dataclasses
import itertools
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dg2_jax.checks import ParameterError
from dg2_jax.diffusion import inversion, solver_table, solvers, views
from dg2_jax.diffusion.schedules import Schedule
from dg2_jax.diffusion.solver_table import SolverTable
from dg2_jax.diffusion.stepping import Stepping
from dg2_jax.diffusion.views import ViewMap
from dg2_jax.generation import tasks
from dg2_jax.generation.inputs import (
    ControlInputs,
    Inputs,
    Source,
    conditions_of,
    guidance_of,
    variation_of,
)
from dg2_jax.generation.program import Program
from dg2_jax.generation.tasks import PixelAnagram
from dg2_jax.generation.text import TextInputs
from dg2_jax.models.interface import GUIDANCE
from dg2_jax.models.model import Model, Network
from dg2_jax.pictures.preview import LatentToRGB
from dg2_jax.settings import BATCH_SIZES, MAX_ROWS, Settings
from dg2_jax.typing import Keys

_INVERSION_ITERATIONS = 5
_PLAIN = Stepping()


class Plan(NamedTuple):
    """What all batches of a call share.

    Attributes:
        settings: of the call, with its height and width.
        program: the compiled program's static part.
        table: of the solver, padded to MAX_ROWS.
        num_rows: number of real rows in it; 0 if only the autoencoder runs.
        size: height and width of the pictures.
        latent_shape: height, width and channels of one latent.
        start_alpha: where a picture is edited, sampling starts from α · its latents + σ · noise.
        start_sigma: that σ.
        views: of an anagram, stacked.
        to_rgb: the linear preview.
        control_steps: the first and the last timestep at which a ControlNet acts.
    """

    settings: Settings
    program: Program
    table: SolverTable
    num_rows: int
    size: tuple[int, int]
    latent_shape: tuple[int, int, int]
    start_alpha: float
    start_sigma: float
    views: ViewMap | None
    to_rgb: LatentToRGB
    control_steps: tuple[int, int] = (-1, 0)

    @property
    def num_steps(self) -> int:
        """Steps of the solver, each of one or more rows; those of an edit may be fewer."""
        steps = self.settings.num_inference_steps
        return min(steps, self.num_rows) if self.num_rows else steps

    @property
    def rows_per_step(self) -> int:
        """Rows of a step, about."""
        return max(1, round(self.num_rows / self.settings.num_inference_steps))

    def step_of(self, rows_done: int) -> int:
        """The steps that are done after so many rows, one or more."""
        return -(-rows_done * self.num_steps // self.num_rows)

    def inputs(
        self,
        source: Source,
        text: TextInputs,
        prompt_weights: Float[np.ndarray, "b p"],
        keys: Keys,
        control_image: Float[np.ndarray, "1 H W 3"] | None = None,
    ) -> Inputs:
        """The inputs of a batch.

        They are NumPy arrays, put on the device as they are. Each operation of `jnp` would be
        another program to compile, and the first picture would wait for about twenty of them.

        Args:
            source: where sampling starts.
            text: of the batch.
            prompt_weights: of the prompts joined by AND.
            keys: of the batch.
            control_image: that a ControlNet follows, in [0, 1].
        """
        settings, control = self.settings, None
        if control_image is not None:
            scale = np.float32(settings.controlnet_conditioning_scale)
            steps = map(np.int32, self.control_steps)
            control = ControlInputs(*jax.device_put((control_image, scale, *steps)))
        return Inputs(
            text=text,
            guidance=guidance_of(settings, prompt_weights, self.program.takes_guidance),
            table=self.table,
            keys=keys,
            reuse_every=jax.device_put(np.int32(settings.reuse_every)),
            source=source,
            views=self.views,
            corrected=jax.device_put(np.bool_(settings.anagram_mode == "corrected")),
            to_rgb=self.to_rgb,
            conditions=conditions_of(settings, self.size),
            control=control,
            variation=variation_of(settings),
        )


def make(
    model: Model,
    settings: Settings,
    to_rgb: LatentToRGB,
    *,
    edits: bool = False,
    worse: Model | None = None,
    control: Network | None = None,
) -> Plan:
    """Everything about a call except its prompts, its seeds and the picture it edits.

    Args:
        model: the model.
        settings: of the call, checked by `ModelFacts.check`.
        to_rgb: of the model.
        edits: whether a picture is edited.
        worse: the model for autoguidance, if any.
        control: a ControlNet, if any.

    Raises:
        ParameterError: a view of an anagram does not fit the size.
    """
    own = model.default_size
    height, width = size = settings.height or own, settings.width or own
    settings = dataclasses.replace(settings, height=height, width=width)
    takes_guidance = GUIDANCE in model.abilities
    guidance = "off" if settings.guidance_scale == 1.0 or takes_guidance else "always"
    if guidance == "always" and settings.guidance_interval is not None:
        guidance = "interval"
    t = timesteps(model.schedule, settings, edits, model.stepping)
    task = tasks.of_settings(settings, model.autoencoder, len(t))
    factor = model.autoencoder_config.downsampling_factor
    cells = height // factor, width // factor
    table, num_rows = _table(model, settings, t)
    alpha, sigma = 0.0, 1.0
    if len(t) == 0:
        alpha, sigma = 1.0, 0.0
    elif edits and settings.strength < 1.0:  # 1 is txt2img, within the mask
        alpha, sigma = float(model.schedule.alpha[t[0]]), float(model.schedule.sigma[t[0]])
    return Plan(
        settings=settings,
        program=Program(
            model.denoiser,
            model.prediction_type,
            task,
            guidance,
            worse.denoiser if worse else None,
            settings.reuse_every > 1,
            takes_guidance,
            control,
            model.mesh,
        ),
        table=table,
        num_rows=num_rows,
        size=size,
        latent_shape=(*cells, model.latent_channels),
        start_alpha=alpha,
        start_sigma=sigma,
        views=_stacked_views(settings, size if isinstance(task, PixelAnagram) else cells, cells),
        to_rgb=to_rgb,
        control_steps=_control_steps(settings, t),
    )


def with_null_text(plan: Plan) -> Plan:
    """The plan for prompts joined by AND, which need the null text even without guidance."""
    return plan if plan.program.is_guided else always_guided(plan)


def always_guided(plan: Plan) -> Plan:
    """The plan whose program evaluates the negative prompt at every row, with the same result."""
    return plan._replace(program=dataclasses.replace(plan.program, guidance="always"))


def backwards(model: Model, plan: Plan) -> Plan:
    """The plan that inverts an original to noise by DDIM; it starts from α = 1."""
    t = timesteps(model.schedule, plan.settings, True, model.stepping)
    iterations = max(1, min(_INVERSION_ITERATIONS, MAX_ROWS // len(t)))
    table = inversion.ddim_table(model.schedule, t, iterations)
    return plan._replace(
        settings=dataclasses.replace(
            plan.settings, guidance_scale=1.0, autoguidance_model=None, autoguidance_scale=1.0
        ),
        program=dataclasses.replace(plan.program, guidance="off", worse=None, reuses=False),
        table=table.padded(MAX_ROWS),
        num_rows=len(table.timestep),
    )


def timesteps(
    schedule: Schedule, settings: Settings, edits: bool, stepping: Stepping = _PLAIN
) -> np.ndarray:
    """The visited timesteps, noisiest first; fewer, or none, where a picture is edited."""
    steps, total = settings.num_inference_steps, schedule.num_train_timesteps
    if edits and settings.strength_mode == "full":
        reached = round(settings.strength * total)
        if reached == 0:
            return np.zeros(0, np.int64)
        steps = min(steps, stepping.most_steps(total, reached))
        return stepping.timesteps(schedule, steps, settings.spacing, below=reached)
    t = stepping.timesteps(schedule, steps, settings.spacing)
    return t[steps - int(steps * settings.strength) :] if edits else t


def _control_steps(settings: Settings, t: np.ndarray) -> tuple[int, int]:
    """The noisiest and the least noisy of the timesteps at which a ControlNet acts."""
    begins = np.arange(len(t)) / max(len(t), 1)
    start, end = settings.control_guidance_start, settings.control_guidance_end
    acts = t[(begins >= start) & (begins + 1 / max(len(t), 1) <= end + 1e-9)]
    return (int(acts[0]), int(acts[-1])) if len(acts) else (-1, 0)


def alike(keys: Sequence[Hashable]) -> list[list[int]]:
    """`batches` of images one after the other whose keys are equal, in their order."""
    result, start = [], 0
    for _, run in itertools.groupby(keys):
        count = len(list(run))
        result += [[start + i for i in batch] for batch in batches(count)]
        start += count
    return result


def batches(count: int) -> list[list[int]]:
    """Indices 0 … count-1 in batches of compiled sizes; the last batch repeats its last index.

    >>> batches(3)
    [[0, 1, 2, 2]]
    """
    result = []
    largest = BATCH_SIZES[-1]
    for start in range(0, count, largest):
        batch = list(range(start, min(start + largest, count)))
        size = next(s for s in BATCH_SIZES if s >= len(batch))
        result.append(batch + batch[-1:] * (size - len(batch)))
    return result


def _stacked_views(
    settings: Settings, shape: tuple[int, int], cells: tuple[int, int]
) -> ViewMap | None:
    if settings.anagram is None:
        return None
    try:
        maps = [views.make(view, *shape, cells=cells[0]) for _, view in settings.anagram]
    except ValueError as error:
        raise ParameterError("anagram", f"does not fit the size: {error}") from error
    return ViewMap(*(jnp.stack(leaves) for leaves in zip(*maps, strict=True)))


def _table(model: Model, settings: Settings, t: np.ndarray) -> tuple[SolverTable, int]:
    """The padded table, and the number of its real rows."""
    schedule, solver = model.schedule, settings.solver
    if len(t) == 0:
        return solvers.make_table("ddim", schedule, np.zeros(1, np.int64)).padded(MAX_ROWS), 0
    table = solvers.make_table(solver, schedule, t, settings.eta, model.stepping.ends_at(solver))
    if settings.num_resamples > 1:
        table = solver_table.resampled(table, settings.num_resamples)
    if settings.inversion == "ddpm":
        table = solver_table.without_noise(table)
    return table.padded(MAX_ROWS), len(table.timestep)
