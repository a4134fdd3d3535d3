"""Distillation to few steps: a student that takes one step where its teacher takes several.

Progressive distillation (Salimans and Ho, arXiv 2202.00512) of a guided teacher (Meng et al.,
arXiv 2210.03142): from a noised latent at one of the student's levels, the teacher goes by guided
DDIM steps to the student's next level; the student learns the x₀ from which a single DDIM step,
unguided, arrives at the same place. Guidance is thus in the student's weights, and a picture costs
`student_steps` evaluations of the network instead of twice the steps of the teacher.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dg2_jax import guidance, prediction, sampling, schedules, solvers
from dg2_jax.config import DiffusionConfig
from dg2_jax.schedules import Schedule
from dg2_jax.solvers import SolverTable
from dg2_jax.training.state import Params, TrainState
from dg2_jax.training.step import Batch, LossFn, StepFn, draw_latents


class Segments(NamedTuple):
    """The student's steps among the teacher's.

    Attributes:
        table: of the teacher, DDIM, `student_steps` · `substeps` rows.
        alpha, sigma: levels that the student visits, and last the clean one.
        timestep: of the levels it visits.
        substeps: rows of the teacher that one step of the student stands for.
    """

    table: SolverTable
    alpha: Float[np.ndarray, "n+1"]
    sigma: Float[np.ndarray, "n+1"]
    timestep: Int[np.ndarray, "n"]
    substeps: int


def segments(schedule: Schedule, student_steps: int, substeps: int) -> Segments:
    """Trailing timesteps of both, so that every level of the student is one of the teacher's.

    Raises:
        ValueError: there are not so many timesteps, or a number is below 1.
    """
    total = schedule.num_train_timesteps
    if student_steps < 1 or substeps < 1 or student_steps * substeps > total:
        raise ValueError(
            f"student_steps and substeps must be at least 1 and their product at most {total}, "
            f"got {student_steps} and {substeps}"
        )
    visited = schedules.timesteps(student_steps * substeps, total, "trailing")
    table = solvers.make_table("ddim", schedule, visited)
    timestep = visited[::substeps]
    alpha = np.append(schedule.alpha[timestep], 1.0)
    sigma = np.append(schedule.sigma[timestep], 0.0)
    return Segments(table, alpha, sigma, timestep, substeps)


def make_teacher(
    graphdef: Any,
    params: Params,
    config: DiffusionConfig,
    guidance_scale: float,
    parts: Segments,
    scaling_factor: float,
    shift_factor: float = 0.0,
) -> Callable[[Batch, Int[Array, ""], PRNGKeyArray], Batch]:
    """What turns encoded batches into the student's.

    Args:
        graphdef: of the teacher, which has a null context.
        params: its parameters.
        config: the process.
        guidance_scale: of the teacher; 1 is unguided.
        parts: the segments.
        scaling_factor: of the autoencoder.
        shift_factor: of the autoencoder.

    Returns:
        (batch, segment, key) to a batch of `x` (b, h, w, c) at the segment's first level, its
        `timestep`, `target`, the x₀ (b, h, w, c) that the student should estimate, its `weight`,
        max(SNR, 1) of the level, `alpha` and `sigma`, and the captions' `context` and `mask`.
    """
    table = jax.tree.map(jnp.asarray, parts.table.padded(len(parts.table.timestep)))
    levels = [jnp.asarray(a, jnp.float32) for a in (parts.alpha, parts.sigma)]
    timesteps = jnp.asarray(parts.timestep, jnp.int32)

    @jax.jit
    def teach(params: Params, batch: Batch, segment: Int[Array, ""], key: PRNGKeyArray) -> Batch:
        model = nnx.merge(graphdef, params)
        latent_key, noise_key = jax.random.split(key)
        x0 = draw_latents(batch, latent_key, scaling_factor, shift_factor)
        (a, a1), (s, s1) = ((level[segment], level[segment + 1]) for level in levels)
        x = a * x0 + s * jax.random.normal(noise_key, x0.shape)
        context, mask = batch["context"].astype(jnp.float32), batch["mask"]
        denoise = guidance.classifier_free(
            guidance.denoiser(model, config.prediction_type),
            jnp.full(len(x), guidance_scale, jnp.float32),
        )
        null = model.project_context(*model.null_context(*mask.shape))
        conditioning = guidance.pair(model.project_context(context, mask), null)
        first = segment * parts.substeps
        progress = sampling.begin(denoise, x)._replace(rows_done=first)
        keys = sampling.image_keys(jnp.arange(len(x)))  # of noise that DDIM does not add
        after = sampling.advance(
            denoise, conditioning, progress, table, keys, first + parts.substeps
        ).state.x
        # One DDIM step is a1·x₀ + s1·(x - a·x₀)/s: solved for x₀.
        target = (after - s1 / s * x) / (a1 - s1 * a / s)
        return {
            "x": x,
            "timestep": timesteps[segment],
            "target": target,
            "weight": jnp.maximum((a / s) ** 2, 1.0),
            "alpha": a,
            "sigma": s,
            "context": context,
            "mask": mask,
        }

    return lambda batch, segment, key: teach(params, batch, segment, key)


def student_loss(graphdef: Any, config: DiffusionConfig) -> LossFn:
    """The weighted squared error of the student's x₀ on batches of a teacher."""

    def loss_fn(params: Params, batch: Batch, key: PRNGKeyArray):
        model = nnx.merge(graphdef, params)
        x = batch["x"]
        t = jnp.broadcast_to(batch["timestep"], x.shape[:1])
        output = model(x, t, model.project_context(batch["context"], batch["mask"]))
        x0 = prediction.to_x0(config.prediction_type, x, output, batch["alpha"], batch["sigma"])
        return batch["weight"] * jnp.mean(jnp.square(x0 - batch["target"])), {}

    return loss_fn


def taught(
    step_fn: StepFn,
    teach: Callable[[Batch, Int[Array, ""], PRNGKeyArray], Batch],
    count: int,
    seed: int,
) -> StepFn:
    """A training step that asks the teacher first.

    Step i is about segment i mod `count`; its noise is a function of (seed, i) alone.

    Args:
        step_fn: of `make_train_step` with a `student_loss`.
        teach: of `make_teacher`.
        count: segments.
        seed: of the teacher's noise.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        return step_fn(state, teach(batch, state.step % count, key))

    return step
