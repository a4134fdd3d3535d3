"""In-painting as a denoiser: the same as blending at the next level, and what soft maps mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion import inpaint, sampling, schedules, solver_table, solvers
from dg2_jax.diffusion.denoiser import Level, stateless

SHAPE = (1, 4, 4, 2)


def toy_estimate(x, level, conditioning):
    """Neither linear nor local, so that a mistake in the blend shows."""
    return jnp.tanh(x + 0.3 * jnp.roll(x, 1, 1)) * (1.0 - 0.5 * level.sigma)


TOY = stateless(toy_estimate)


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    original, noise = (jnp.asarray(rng.normal(size=SHAPE), jnp.float32) for _ in "on")
    change = jnp.zeros((1, 4, 4, 1)).at[:, 1:3, 1:3].set(1.0)
    schedule = schedules.make("cosine")
    return original, noise, change, schedule, schedules.timesteps(8, 1000, "leading")


def run(denoise, x, table):
    keys = sampling.image_keys(jnp.arange(1))
    return np.asarray(sampling.sample(denoise, None, x, table, keys))


def test_equals_blending_at_the_next_level(case):
    original, noise, change, schedule, t = case
    table = solvers.make_table("ddim", schedule, t)
    denoise = inpaint.keep_original(TOY, original, change, jnp.int32(t[0]))
    start = schedule.alpha[t[0]] * original + schedule.sigma[t[0]] * noise
    x = np.asarray(start, np.float64)
    for i in range(len(t)):
        level = Level(t[i], table.alpha[i], table.sigma[i])
        x0 = np.asarray(toy_estimate(x, level, None))
        moved = table.matrix[i, 0, solver_table.X] * x + table.matrix[i, 0, solver_table.M0] * x0
        at_next = table.next_alpha[i] * original + table.next_sigma[i] * noise
        x = np.where(np.asarray(change) > 0, moved, at_next)
    np.testing.assert_allclose(run(denoise, start, table), x, atol=2e-5)


@pytest.mark.parametrize("solver", solvers.SOLVERS)
def test_what_may_not_change_ends_as_the_original(case, solver):
    original, noise, change, schedule, t = case
    table = solvers.make_table(solver, schedule, t)
    denoise = inpaint.keep_original(TOY, original, change, jnp.int32(t[0]))
    out = run(denoise, noise, table)
    kept = np.asarray(change[0, :, :, 0]) == 0
    np.testing.assert_allclose(out[0][kept], np.asarray(original)[0][kept], atol=1e-6)
    assert np.abs(out[0][~kept] - np.asarray(original)[0][~kept]).max() > 0.1


def test_a_soft_cell_is_let_go_for_its_share_of_the_way(case):
    original, _, _, _, _ = case
    change = jnp.full((1, 4, 4, 1), 0.25)
    denoise = inpaint.keep_original(TOY, original, change, jnp.int32(999))
    free = []
    for t in range(999, -1, -1):
        level = Level(jnp.int32(t), jnp.float32(0.5), jnp.float32(0.8))
        free.append(bool((denoise.apply(original, level, None, ())[0] != original).any()))
    assert sum(free) == 250
    assert free == sorted(free)  # kept first, then free to the end


def test_change_map_one_is_the_denoiser_itself(case):
    original, noise, _, _, _ = case
    denoise = inpaint.keep_original(TOY, original, jnp.ones((1, 4, 4, 1)), jnp.int32(999))
    level = Level(jnp.int32(999), jnp.float32(0.0), jnp.float32(1.0))
    x0, memory = denoise.apply(noise, level, None, ())
    assert memory == ()
    np.testing.assert_array_equal(x0, toy_estimate(noise, level, None))


def test_resampling_keeps_the_marginal():
    """For Gaussian data the rows of RePaint keep mean and spread, as those of plain sampling do."""
    mean, std, schedule = 0.8, 0.3, schedules.make("cosine")
    t = schedules.timesteps(50, 1000, "trailing")

    def best(x, level, conditioning):
        variance = level.alpha**2 * std**2 + level.sigma**2
        return mean + level.alpha * std**2 / variance * (x - level.alpha * mean)

    table = solver_table.resampled(solvers.make_table("ddim", schedule, t), 3)
    assert len(table.timestep) == 3 * 49 + 1
    keys = sampling.image_keys(jnp.arange(4))
    x = sampling.initial_noise(keys, (5000, 1, 1))
    out = jax.jit(lambda x, k: sampling.sample(stateless(best), None, x, table, k))(x, keys)
    assert abs(float(out.mean()) - mean) < 0.02
    assert abs(float(out.std()) - std) < 0.03
