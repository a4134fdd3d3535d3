"""The sampling loop: a denoiser and a solver's table in, latents out.

One step function serves two drivers: `sample`, a `lax.scan` that is pure, differentiable and fit
for programmatic use, and `advance`, a `lax.while_loop` over any rows without recompilation, which a
host calls a few rows at a time to show previews and to stop, or which calls the host itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import io_callback
from jaxtyping import Array, Int, Integer, PRNGKeyArray

from dg2_jax.diffusion import solvers
from dg2_jax.diffusion.guidance import Conditioning, Denoiser, Level, Memory, Recurrent, recurrent
from dg2_jax.diffusion.solvers import SolverState, SolverTable
from dg2_jax.typing import Keys, Latent

# What noise is for: part of every key, so that no two uses share numbers.
INITIAL_NOISE, STEP_NOISE, POSTERIOR_NOISE, SOURCE_NOISE = range(4)


def image_keys(seeds: Integer[Array, " b"]) -> Keys:
    """One key an image, from its own seed alone."""
    return jax.vmap(jax.random.key)(seeds)


def noise_for(keys: Keys, name: int, step: int | Int[Array, ""], shape: tuple[int, ...]) -> Latent:
    """Standard normal (b, *shape): a function of (seed, name, step), not of the batch."""

    def one(key: PRNGKeyArray) -> Array:
        return jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, name), step), shape)

    return jax.vmap(one)(keys)


def initial_noise(keys: Keys, shape: tuple[int, ...]) -> Latent:
    """Where txt2img starts: N(0, I)."""
    return noise_for(keys, INITIAL_NOISE, 0, shape)


def _step(
    denoise: Recurrent,
    conditioning: Conditioning,
    keys: Keys,
    index: Int[Array, ""],
    row: SolverTable,
    state: SolverState,
    memory: Memory,
) -> tuple[SolverState, Memory, Latent]:
    """One row; returns the new state and memory, and the x₀ estimate that it used."""
    level = Level(row.timestep, row.alpha, row.sigma)
    x0, memory = denoise.step(state.x, level, conditioning, memory)
    noise = noise_for(keys, STEP_NOISE, index, x0.shape[1:])
    return solvers.step(state, row.matrix, x0, noise), memory, x0


def sample(
    denoise: Denoiser | Recurrent,
    conditioning: Conditioning,
    x: Latent,
    table: SolverTable,
    keys: Keys,
) -> Latent:
    """Run every row of a table from `x` (at the level of its first row) to a clean latent."""
    rows = len(table.timestep)
    table = jax.tree.map(jnp.asarray, table.padded(rows))
    denoise = recurrent(denoise)

    def body(carry: tuple, item: tuple) -> tuple[tuple, None]:
        index, row = item
        return _step(denoise, conditioning, keys, index, row, *carry)[:2], None

    start = solvers.init(x), denoise.start(x)
    (state, _), _ = jax.lax.scan(body, start, (jnp.arange(rows), table))
    return state.x


class Progress(NamedTuple):
    """How far a sampling is.

    Attributes:
        rows_done: of the table.
        state: of the solver; `state.x` are the latents.
        memory: of the denoiser.
        x0: the last row's estimate; the starting latents before the first row.
    """

    rows_done: Int[Array, ""]
    state: SolverState
    memory: Memory
    x0: Latent


def begin(denoise: Denoiser | Recurrent, x: Latent) -> Progress:
    """A sampling from `x`, no row done."""
    return Progress(jnp.int32(0), solvers.init(x), recurrent(denoise).start(x), x)


def advance(
    denoise: Denoiser | Recurrent,
    conditioning: Conditioning,
    progress: Progress,
    table: SolverTable,
    keys: Keys,
    until: Int[Array, ""],
    *,
    adjust: Callable[[Int[Array, ""], SolverTable, SolverState], SolverState] | None = None,
    on_step: Callable[[Array, Any], Any] | None = None,
    show: Callable[[Latent], Any] = lambda x0: x0,
    every: Int[Array, ""] | int = 1,
) -> Progress:
    """`sample` over the rows from `progress.rows_done` to `until`.

    Args:
        denoise: the denoiser.
        conditioning: its conditioning.
        progress: from `begin`, or from an earlier call.
        table: padded to a fixed number of rows, so that no step count compiles anew.
        keys: one an image.
        until: rows that are done afterwards, at most the table's real ones.
        adjust: changes the state after each row, as `adjust(index, row, state)`.
        on_step: called on the host, in order, as `on_step(rows_done, show(x0))`, and returns a
            numpy bool, True to stop; it must not call JAX. It is for a watched sampling within one
            program of one's own: JAX keeps no program that calls the host in its compilation
            cache, which is why `Pipeline` calls `advance` again and again instead.
        show: maps the x₀ estimate to what the host receives, any pytree, on the device.
        every: `on_step` is called after each `every`-th row and after row `until`.

    Returns:
        The progress; its `rows_done` is below `until` if `on_step` stopped it.
    """
    denoise = recurrent(denoise)

    def unfinished(carry: tuple[Progress, Array]) -> Array:
        progress, stopped = carry
        return (progress.rows_done < until) & ~stopped

    def body(carry: tuple[Progress, Array]) -> tuple[Progress, Array]:
        (index, state, memory, _), stopped = carry
        row = jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, index, keepdims=False), table)
        state, memory, x0 = _step(denoise, conditioning, keys, index, row, state, memory)
        if adjust is not None:
            state = adjust(index, row, state)
        done = index + 1
        if on_step is not None:
            stopped = jax.lax.cond(
                (done % every == 0) | (done == until),
                lambda: io_callback(
                    on_step, jax.ShapeDtypeStruct((), jnp.bool_), done, show(x0), ordered=True
                ),
                lambda: jnp.asarray(False),
            )
        return Progress(done, state, memory, x0), stopped

    return jax.lax.while_loop(unfinished, body, (progress, jnp.asarray(False)))[0]
