"""Inversion: an inverted picture comes back."""

import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion import denoiser, inversion, sampling, schedules, solver_table, solvers

SHAPE = (2, 4, 4, 2)
MEAN, STD = 0.4, 0.7


@denoiser.stateless
def gaussian_denoiser(x, level, shift):
    """E[x0 | x] for x0 ~ N(MEAN + shift, STD²), bent a little so that it is not linear."""
    mean = MEAN + shift
    variance = level.alpha**2 * STD**2 + level.sigma**2
    x0 = mean + level.alpha * STD**2 / variance * (x - level.alpha * mean)
    return x0 + 0.1 * jnp.sin(3.0 * x0)


@pytest.fixture(scope="module")
def original():
    return jnp.asarray(np.random.default_rng(0).normal(MEAN, STD, SHAPE), jnp.float32)


@pytest.mark.parametrize(
    ("schedule", "spacing"), [("cosine", "leading"), ("curved", "trailing"), ("linear", "linspace")]
)
@pytest.mark.parametrize("zero_terminal", [False, True])
def test_ddim_inversion_is_exact(original, schedule, spacing, zero_terminal):
    schedule = schedules.make(schedule, 1000, zero_terminal)
    t = schedules.timesteps(12, 1000, spacing)
    keys = sampling.image_keys(jnp.arange(2))
    backwards = inversion.ddim_table(schedule, t, iterations=12)
    noisy = sampling.sample(gaussian_denoiser, 0.0, original, backwards, keys)
    assert float(jnp.abs(noisy - original).max()) > 0.5
    forwards = solvers.make_table("ddim", schedule, t)
    back = sampling.sample(gaussian_denoiser, 0.0, noisy, forwards, keys)
    np.testing.assert_allclose(back, original, atol=2e-3)


def test_more_iterations_are_nearer(original):
    schedule = schedules.make("curved", 1000, True)
    t = schedules.timesteps(10, 1000, "trailing")
    keys, errors = sampling.image_keys(jnp.arange(2)), []
    for iterations in (1, 3, 9):
        table = inversion.ddim_table(schedule, t, iterations)
        assert len(table.timestep) == 10 * iterations
        noisy = sampling.sample(gaussian_denoiser, 0.0, original, table, keys)
        forwards = solvers.make_table("ddim", schedule, t)
        back = sampling.sample(gaussian_denoiser, 0.0, noisy, forwards, keys)
        errors.append(float(jnp.abs(back - original).max()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_rows_of_the_inversion_carry_consecutive_levels():
    schedule = schedules.make("curved")
    t = schedules.timesteps(6, 1000, "linspace")
    table = inversion.ddim_table(schedule, t, iterations=3)
    visited = t[::-1].repeat(3)
    np.testing.assert_array_equal(table.timestep, visited)
    for now, to, level in (
        (table.alpha, table.next_alpha, schedule.alpha),
        (table.sigma, table.next_sigma, schedule.sigma),
    ):
        np.testing.assert_array_equal(now, level[visited])
        # A row leaves the sample where the next one evaluates it, the last row where it was.
        np.testing.assert_array_equal(to, np.append(now[1:], now[-1]))


@pytest.mark.parametrize("skipped", [0, 5])
def test_ddpm_inversion_returns_the_original_and_follows_edits(original, skipped):
    schedule = schedules.make("curved", 1000, True)
    t = schedules.timesteps(15, 1000, "trailing")[skipped:]
    table = solver_table.without_noise(solvers.make_table("ddpm", schedule, t))
    keys = sampling.image_keys(jnp.arange(2))
    start = inversion.source_path(
        original, keys, jnp.int32(0), jnp.float32(table.alpha[0]), jnp.float32(table.sigma[0])
    )

    def edit(shift):
        shifts = jnp.concatenate([jnp.full(2, shift), jnp.zeros(2)])[:, None, None, None]
        both, rows = jnp.concatenate([keys, keys]), table.padded(len(t))
        step = sampling.make_step(gaussian_denoiser, shifts, rows, both)
        step = inversion.follow_source(step, rows, original, keys)
        progress = sampling.begin(gaussian_denoiser, jnp.concatenate([start, start]))
        return sampling.advance(step, progress, len(t)).state.x[:2]

    np.testing.assert_allclose(edit(0.0), original, atol=1e-5)
    moved = edit(1.0) - original
    assert float(moved.mean()) > 0.3
    # The edit keeps what the prompt does not speak of: the picture's own deviations.
    kept = jnp.corrcoef((edit(1.0)).ravel(), original.ravel())[0, 1]
    assert float(kept) > 0.9
