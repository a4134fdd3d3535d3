"""The sampling loops agree with each other, in one go, in pieces, and watched by the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion import guidance, sampling, schedules, solvers

SHAPE = (4, 4, 2)
STEPS = 9


def gaussian(x, level, conditioning):
    """The exact denoiser of N(mean, 0.25)."""
    a, s = level.alpha, level.sigma
    return conditioning + 0.25 * a * (x - a * conditioning) / (0.25 * a**2 + s**2)


@pytest.fixture(params=["dpmpp_2m", "heun", "ddpm"])
def table(request):
    schedule = schedules.make("cosine", 1000, False)
    return solvers.make_table(request.param, schedule, schedules.timesteps(STEPS, 1000, "trailing"))


@pytest.fixture
def start():
    keys = sampling.image_keys(jnp.arange(3))
    return sampling.initial_noise(keys, SHAPE), keys


MEAN = jnp.linspace(-1, 1, 3)[:, None, None, None]


@pytest.mark.parametrize("cuts", [(), (1,), (2, 3, 7)])
def test_rows_in_pieces_are_all_rows(table, start, cuts):
    x, keys = start
    rows = len(table.timestep)
    padded = table.padded(rows + 5)
    progress = sampling.begin(gaussian, x)
    for until in (*cuts, rows):
        progress = sampling.advance(gaussian, MEAN, progress, padded, keys, jnp.int32(until))
        assert int(progress.rows_done) == until
    whole = sampling.sample(gaussian, MEAN, x, table, keys)
    np.testing.assert_allclose(progress.state.x, whole, atol=1e-5)


def test_memory_is_carried_from_piece_to_piece(table, start):
    """A denoiser that adds the number of its calls."""
    x, keys = start
    counting = guidance.Recurrent(
        lambda x: jnp.zeros(()), lambda x, level, c, n: (gaussian(x, level, c) + n, n + 1)
    )
    rows = len(table.timestep)
    progress = sampling.begin(counting, x)
    for until in (4, rows):
        progress = sampling.advance(
            counting, MEAN, progress, table.padded(rows), keys, jnp.int32(until)
        )
    assert float(progress.memory) == rows
    whole = sampling.sample(counting, MEAN, x, table, keys)
    np.testing.assert_allclose(progress.state.x, whole, rtol=1e-5)


@pytest.mark.parametrize("stop_at", [None, 4])
def test_the_host_watches_and_stops_a_compiled_sampling(table, start, stop_at):
    x, keys = start
    rows, seen = len(table.timestep), []

    def on_step(done, shown):
        seen.append((int(done), np.array(shown)))
        return np.bool_(done == stop_at)

    @jax.jit
    def run(x):
        return sampling.advance(
            gaussian, MEAN, sampling.begin(gaussian, x), table.padded(rows), keys,
            jnp.int32(rows), on_step=on_step, show=lambda x0: x0.mean((1, 2, 3)), every=2,
        )  # fmt: skip

    progress = jax.block_until_ready(run(x))
    jax.effects_barrier()
    last = stop_at or rows
    assert int(progress.rows_done) == last
    assert [done for done, _ in seen] == [*range(2, last, 2), last]
    np.testing.assert_allclose(seen[-1][1], progress.x0.mean((1, 2, 3)), rtol=1e-6)
    pieces = sampling.advance(
        gaussian, MEAN, sampling.begin(gaussian, x), table.padded(rows), keys, jnp.int32(last)
    )
    np.testing.assert_allclose(progress.state.x, pieces.state.x, atol=1e-5)
