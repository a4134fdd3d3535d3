"""The sampling loop: a denoiser and a solver's table in, latents out.

One step function serves two drivers: `sample`, a `lax.scan` that is pure, differentiable and fit
for programmatic use, and `sample_interruptible`, a `lax.while_loop` that runs any number of rows
without recompilation, shows its x₀ estimates to the host every few steps and stops when told to.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import io_callback
from jaxtyping import Array, Int, Integer, PRNGKeyArray

from dg2_jax import solvers
from dg2_jax.guidance import Conditioning, Denoiser, Level, Memory, Recurrent, recurrent
from dg2_jax.solvers import SolverState, SolverTable
from dg2_jax.typing import Keys, Latent

# What noise is for: part of every key, so that no two uses share numbers.
INITIAL_NOISE, STEP_NOISE, POSTERIOR_NOISE, SOURCE_NOISE = range(4)


def image_keys(seeds: Integer[Array, "b"]) -> Keys:
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


def sample_interruptible(
    denoise: Denoiser | Recurrent,
    conditioning: Conditioning,
    x: Latent,
    table: SolverTable,
    keys: Keys,
    num_rows: Int[Array, ""],
    *,
    on_step: Callable[[Array, Any], Any] | None = None,
    show: Callable[[Latent], Any] = lambda x0: x0,
    every: Int[Array, ""] | int = 1,
    adjust: Callable[[Int[Array, ""], SolverTable, SolverState], SolverState] | None = None,
) -> tuple[Latent, Int[Array, ""]]:
    """`sample` over the first `num_rows` rows, with a watcher.

    Args:
        denoise: the denoiser.
        conditioning: its conditioning.
        x: the starting latents.
        table: padded to a fixed number of rows, so that no step count compiles anew.
        keys: one an image.
        num_rows: how many rows are real.
        on_step: called on the host, in order, as `on_step(rows_done, show(x0))`, and returns a
            numpy bool, True to stop; it must not call JAX. None: no host call is compiled in.
        show: maps the x₀ estimate to what the host receives, any pytree, on the device.
        every: `on_step` is called after each `every`-th row and after the last.
        adjust: changes the state after each row, as `adjust(index, row, state)`.

    Returns:
        The latents and the number of rows run, below `num_rows` if stopped.
    """
    denoise = recurrent(denoise)

    def unfinished(carry: tuple) -> Array:
        index, stopped, *_ = carry
        return (index < num_rows) & ~stopped

    def body(carry: tuple) -> tuple:
        index, _, state, memory = carry
        row = jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, index, keepdims=False), table)
        state, memory, x0 = _step(denoise, conditioning, keys, index, row, state, memory)
        if adjust is not None:
            state = adjust(index, row, state)
        done = index + 1
        stopped = jnp.asarray(False)
        if on_step is not None:
            stopped = jax.lax.cond(
                (done % every == 0) | (done == num_rows),
                lambda: io_callback(
                    on_step, jax.ShapeDtypeStruct((), jnp.bool_), done, show(x0), ordered=True
                ),
                lambda: jnp.asarray(False),
            )
        return done, stopped, state, memory

    start = (jnp.int32(0), jnp.asarray(False), solvers.init(x), denoise.start(x))
    rows_done, _, state, _ = jax.lax.while_loop(unfinished, body, start)
    return state.x, rows_done
