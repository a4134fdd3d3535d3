"""Distillation to few steps: the student takes one step where its teacher takes several.

Progressive distillation (Salimans and Ho, arXiv 2202.00512) of a guided teacher (Meng et al., arXiv
2210.03142). From a noised latent at one of the student's levels, the teacher takes guided DDIM
steps to the student's next level; the student learns the x₀ with which one unguided DDIM step
arrives at the same latent. So guidance is built into the student's weights, and a picture costs
`student_steps` evaluations of the network instead of twice the teacher's steps.

Most latents come from the student's own sampling, as in DAgger (Ross et al., arXiv 1011.0686):
guided samples do not have the data's distribution, and the teacher shows each step how to mend what
the one before has blurred. The rest are noised data, where img2img begins.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dg2_jax import randomness
from dg2_jax.data.loader import Batch
from dg2_jax.diffusion import (
    denoiser,
    guidance,
    prediction,
    sampling,
    schedules,
    solvers,
)
from dg2_jax.diffusion.schedules import Schedule
from dg2_jax.diffusion.solver_table import SolverTable
from dg2_jax.models.model import Network, Params
from dg2_jax.nn.scaling import Scaling
from dg2_jax.training.process import DiffusionConfig
from dg2_jax.training.state import TrainState
from dg2_jax.training.step import LossFn, StepFn, draw_latents
from dg2_jax.typing import Latent

Teach = Callable[[Params, Batch, PRNGKeyArray], Batch]


class Segments(NamedTuple):
    """The student's steps among the teacher's.

    Attributes:
        table: of the teacher, DDIM, `student_steps` · `substeps` rows.
        alpha, sigma: levels that the student visits, then the clean level.
        timestep: of the levels it visits.
        substeps: rows of the teacher per step of the student.
    """

    table: SolverTable
    alpha: Float[np.ndarray, " n+1"]
    sigma: Float[np.ndarray, " n+1"]
    timestep: Int[np.ndarray, " n"]
    substeps: int


def segments(schedule: Schedule, student_steps: int, substeps: int) -> Segments:
    """Trailing timesteps of both, so that every level of the student is one of the teacher's.

    Raises:
        ValueError: there are not enough timesteps, or a number is below 1.
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
    network: Network,
    params: Params,
    config: DiffusionConfig,
    guidance_scale: float,
    parts: Segments,
    scaling: Scaling,
    own_share: float = 0.75,
) -> Teach:
    """The function that turns encoded batches into the student's.

    Args:
        network: the structure of teacher and student, with a learnt null context.
        params: of the teacher.
        config: the process.
        guidance_scale: of the teacher; 1 is unguided.
        parts: the segments.
        scaling: of the latents.
        own_share: share of latents from the student's own steps, 0 to 1; the rest are noised
            data.

    Returns:
        (student, batch of b, key) to a batch of b latents at each of the n segments' first levels:
        `x` (n·b, h, w, c), their `timestep`, `alpha` and `sigma` (n·b,), `target`, the x₀ that
        the student should estimate, `weight` (n·b,), which is max(SNR, 1) of the level, and the
        captions' `context` and `mask`.
    """
    table = jax.tree.map(jnp.asarray, parts.table.padded(len(parts.table.timestep)))
    alpha, sigma = (np.asarray(level, np.float32) for level in (parts.alpha, parts.sigma))
    count = len(parts.timestep)
    rows = (np.arange(count), parts.timestep, alpha[:-1], sigma[:-1], alpha[1:], sigma[1:])

    @jax.jit
    @randomness.steady
    def teach(params: Params, student: Params, batch: Batch, key: PRNGKeyArray) -> Batch:
        model, learner = network.bind(params), network.bind(student)
        latent_key, start_key, *keys = jax.random.split(key, 4)
        x0 = draw_latents(batch, latent_key, scaling)
        context, mask = batch["context"].astype(jnp.float32), batch["mask"]
        denoise = guidance.classifier_free(
            denoiser.of_network(model, config.prediction_type),
            jnp.full(len(x0), guidance_scale, jnp.float32),
        )
        null = model.project_context(*model.null_context(*mask.shape))
        conditioning = guidance.pair(model.project_context(context, mask), null)
        learner_context = learner.project_context(context, mask)
        unused = sampling.image_keys(jnp.arange(len(x0)))  # DDIM adds no noise
        step = sampling.make_step(denoise, conditioning, table, unused)

        def segment(own: Latent, row: tuple) -> tuple[Latent, tuple[Latent, Latent]]:
            index, t, a, s, a1, s1 = row
            noise_key, coin_key = (jax.random.fold_in(key, index) for key in keys)
            noised = a * x0 + s * randomness.normal(noise_key, x0.shape)
            coin = randomness.bernoulli(coin_key, own_share, (len(x0), 1, 1, 1))
            x = jnp.where(coin, own, noised)
            progress = sampling.begin(denoise, x)._replace(rows_done=index * parts.substeps)
            until = (index + 1) * parts.substeps
            after = sampling.advance(step, progress, until).state.x
            # One DDIM step is a1·x₀ + s1·(x - a·x₀)/s: solved for x₀.
            target = (after - s1 / s * x) / (a1 - s1 * a / s)
            output = learner(x, jnp.broadcast_to(t, x.shape[:1]), learner_context)
            guess = prediction.to_x0(config.prediction_type, x, output, a, s)
            return a1 * guess + s1 * (x - a * guess) / s, (x, target)

        start = randomness.normal(start_key, x0.shape)
        first = jax.tree.map(jnp.asarray, rows)
        _, (x, target) = jax.lax.scan(segment, alpha[0] * x0 + sigma[0] * start, first)

        def of_level(values: np.ndarray) -> Array:
            return jnp.repeat(jnp.asarray(values), len(x0))

        def of_picture(values: Array) -> Array:
            return jnp.tile(values, (count,) + (1,) * (values.ndim - 1))

        return {
            "x": x.reshape(-1, *x0.shape[1:]),
            "target": target.reshape(-1, *x0.shape[1:]),
            "timestep": of_level(parts.timestep.astype(np.int32)),
            "alpha": of_level(alpha[:-1]),
            "sigma": of_level(sigma[:-1]),
            "weight": of_level(np.maximum((alpha[:-1] / sigma[:-1]) ** 2, 1.0)),
            "context": of_picture(context),
            "mask": of_picture(mask),
        }

    return lambda student, batch, key: teach(params, student, batch, key)


def student_loss(network: Network, config: DiffusionConfig) -> LossFn:
    """The weighted squared error of the student's x₀ on a teacher's batches."""

    def loss_fn(params: Params, batch: Batch, key: PRNGKeyArray):
        model = network.bind(params)
        x, alpha, sigma = batch["x"], *(batch[n][:, None, None, None] for n in ("alpha", "sigma"))
        output = model(x, batch["timestep"], model.project_context(batch["context"], batch["mask"]))
        x0 = prediction.to_x0(config.prediction_type, x, output, alpha, sigma)
        errors = jnp.mean(jnp.square(x0 - batch["target"]), axis=(1, 2, 3))
        return jnp.mean(batch["weight"] * errors), {}

    return loss_fn


def taught(step_fn: StepFn, teach: Teach, seed: int) -> StepFn:
    """A training step on the teacher's answers; its noise is a function of (seed, step) alone.

    Args:
        step_fn: of `make_train_step` with a `student_loss`.
        teach: of `make_teacher`.
        seed: of the noise.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
        key = jax.random.fold_in(randomness.key(seed), state.step)
        return step_fn(state, teach(state.params, batch, key))

    return step
