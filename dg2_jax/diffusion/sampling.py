"""The sampling loop: a denoiser and a solver's table in, latents out.

One step, `Progress` to `Progress`, serves three drivers: `sample`, a `lax.scan` that is pure and
differentiable; `advance`, a `lax.while_loop` over any rows without recompilation, which a host
calls for a few rows at a time; and `watched`, the same loop calling the host itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import io_callback
from jaxtyping import Array, Bool, Float, Int, Integer, PRNGKeyArray

from dg2_jax import randomness
from dg2_jax.diffusion import solver_table
from dg2_jax.diffusion.denoiser import Conditioning, Denoiser, Level, Memory
from dg2_jax.diffusion.solver_table import SolverState, SolverTable
from dg2_jax.typing import Keys, Latent

# The purpose of noise is part of every key, so that no two uses share random numbers.
INITIAL_NOISE, STEP_NOISE, SOURCE_NOISE, SECOND_PASS = 0, 1, 3, 4


def image_keys(seeds: Integer[Array, " b"]) -> Keys:
    """One key per image, from its own seed alone."""
    return jax.vmap(randomness.key)(seeds)


def noise_for(
    keys: Keys, name: int, step: int | Int[Array, "*b"], shape: tuple[int, ...]
) -> Latent:
    """Standard normal (b, *shape): a function of (seed, name, step), not of the batch.

    The step is the same for all images, or one for each.
    """

    def one(key: PRNGKeyArray, step: int | Int[Array, ""]) -> Array:
        return randomness.normal(jax.random.fold_in(jax.random.fold_in(key, name), step), shape)

    return jax.vmap(one, in_axes=(0, 0 if jnp.ndim(step) else None))(keys, step)


class Variation(NamedTuple):
    """Initial noise moved towards that of another seed.

    Attributes:
        keys: (1,), of the other seed.
        strength: how far, 0 to 1.
    """

    keys: Keys
    strength: Float[Array, ""]


def initial_noise(keys: Keys, shape: tuple[int, ...], variation: Variation | None = None) -> Latent:
    """Where txt2img starts: N(0, I), of a seed or on the way to another one's."""
    noise = noise_for(keys, INITIAL_NOISE, 0, shape)
    if variation is None:
        return noise
    return slerp(noise, noise_for(variation.keys, INITIAL_NOISE, 0, shape), variation.strength)


def slerp(start: Latent, end: Float[Array, "#b h w c"], weight: Float[Array, ""] | float) -> Latent:
    """Spherical interpolation of each latent: (sin((1-w)θ)·start + sin(wθ)·end) / sin θ.

    θ is the angle between `start` and `end`, w the weight: 0 is `start`, 1 is `end`. Independent
    Gaussian noises, which are nearly orthogonal, keep their norm on the way; latents of nearly the
    same direction are interpolated linearly. Shoemake, "Animating Rotation with Quaternion Curves"
    (SIGGRAPH 1985).
    """

    def one(a: Array, b: Array) -> Array:
        cosine = jnp.vdot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))
        angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
        sine = jnp.sin(angle)
        near = sine < 1e-3
        divisor = jnp.where(near, 1.0, sine)
        of_a = jnp.where(near, 1 - weight, jnp.sin((1 - weight) * angle) / divisor)
        of_b = jnp.where(near, weight, jnp.sin(weight * angle) / divisor)
        return of_a * a + of_b * b

    return jax.vmap(one)(start, jnp.broadcast_to(end, start.shape))


class Progress(NamedTuple):
    """The progress of a sampling run.

    Attributes:
        rows_done: number of rows of the table that are done; one per latent where each latent
            has a table of its own.
        state: of the solver; `state.x` are the latents.
        memory: of the denoiser.
        x0: the last row's estimate; the starting latents before the first row.
    """

    rows_done: Int[Array, "*b"]
    state: SolverState
    memory: Memory
    x0: Latent


Step = Callable[[Progress], Progress]


def begin(denoise: Denoiser, x: Latent) -> Progress:
    """The progress before the first row, from `x` at the level of that row."""
    return Progress(jnp.int32(0), solver_table.init(x), denoise.init(x), x)


def make_step(
    denoise: Denoiser, conditioning: Conditioning, table: SolverTable, keys: Keys
) -> Step:
    """The step that runs row `rows_done` of a table.

    Args:
        denoise: the denoiser.
        conditioning: its conditioning.
        table: `SolverTable.padded`; or one per latent, (b, rows, …), with `rows_done` (b,).
        keys: one per latent, for the noise of stochastic solvers.
    """
    table = jax.tree.map(jnp.asarray, table)

    def step(progress: Progress) -> Progress:
        index, state = progress.rows_done, progress.state
        row = row_of(table, index)
        level = Level(row.timestep, row.alpha, row.sigma)
        x0, memory = denoise.apply(state.x, level, conditioning, progress.memory)
        noise = noise_for(keys, STEP_NOISE, index, x0.shape[1:])
        return Progress(index + 1, solver_table.step(state, row.matrix, x0, noise), memory, x0)

    return step


def row_of(table: SolverTable, index: Int[Array, "*b"]) -> SolverTable:
    """One row of a table, its arrays without the axis of rows; of b tables, one row of each."""

    def one(table: SolverTable, index: Int[Array, ""]) -> SolverTable:
        return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, index, keepdims=False), table)

    return one(table, index) if index.ndim == 0 else jax.vmap(one)(table, index)


def sample(
    denoise: Denoiser, conditioning: Conditioning, x: Latent, table: SolverTable, keys: Keys
) -> Latent:
    """Runs every row of a table from `x`, at the level of its first row, to a clean latent."""
    rows = len(table.timestep)
    step = make_step(denoise, conditioning, table.padded(rows), keys)
    start = begin(denoise, x)
    return jax.lax.scan(lambda p, _: (step(p), None), start, length=rows)[0].state.x


def advance(step: Step, progress: Progress, until: Int[Array, "*b"] | int) -> Progress:
    """Runs rows until `until` are done, at most as many as the table has real rows.

    Latents with tables of their own run the same number of rows: `until - rows_done` is one number.
    """
    return jax.lax.while_loop(lambda p: jnp.all(p.rows_done < until), step, progress)


def watched(
    step: Step,
    progress: Progress,
    until: Int[Array, ""] | int,
    watch: Callable[[Array, Any], Any],
    every: Int[Array, ""] | int = 1,
    show: Callable[[Latent], Any] = lambda x0: x0,
) -> Progress:
    """`advance` that reports to the host; `rows_done` is below `until` if the host stopped it.

    Args:
        step: as for `advance`.
        progress: likewise.
        until: likewise.
        watch: called on the host, in order, as `watch(rows_done, show(x0))` after each `every`-th
            row and after the last one. It returns a NumPy bool, True to stop, and must not call
            JAX.
        every: rows between two calls, at least 1.
        show: maps the x₀ estimate to what the host receives, any pytree, on the device.
    """

    def body(carry: tuple[Progress, Bool[Array, ""]]) -> tuple[Progress, Bool[Array, ""]]:
        progress = step(carry[0])
        done = progress.rows_done
        return progress, jax.lax.cond(
            (done % every == 0) | (done == until),
            lambda: io_callback(
                watch, jax.ShapeDtypeStruct((), jnp.bool_), done, show(progress.x0), ordered=True
            ),
            lambda: jnp.asarray(False),
        )

    return jax.lax.while_loop(
        lambda carry: (carry[0].rows_done < until) & ~carry[1], body, (progress, jnp.asarray(False))
    )[0]
