"""The sampling loops agree with each other, in one go, in pieces, and watched by the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion import sampling, schedules, solver_table, solvers
from dg2_jax.diffusion.denoiser import Denoiser, stateless

SHAPE = (4, 4, 2)
STEPS = 9
MEAN = jnp.linspace(-1, 1, 3)[:, None, None, None]


@stateless
def gaussian(x, level, conditioning):
    """The exact denoiser of N(mean, 0.25)."""
    a, s = level.over_latents()
    return conditioning + 0.25 * a * (x - a * conditioning) / (0.25 * a**2 + s**2)


def counting(x, level, conditioning, calls):
    """A denoiser that adds the number of its calls, its memory, to the estimate."""
    x0, _ = gaussian.apply(x, level, conditioning, ())
    return x0 + calls, calls + 1


COUNTING = Denoiser(lambda x: jnp.zeros(()), counting)


@pytest.fixture(params=["dpmpp_2m", "heun", "ddpm"])
def table(request):
    schedule = schedules.make("cosine", 1000, False)
    return solvers.make_table(request.param, schedule, schedules.timesteps(STEPS, 1000, "trailing"))


@pytest.fixture
def start():
    keys = sampling.image_keys(jnp.arange(3))
    return sampling.initial_noise(keys, SHAPE), keys


@pytest.mark.parametrize("denoise", [gaussian, COUNTING])
@pytest.mark.parametrize("cuts", [(), (1,), (2, 3, 7)])
def test_rows_in_pieces_are_all_rows(table, start, cuts, denoise):
    x, keys = start
    rows = len(table.timestep)
    step = sampling.make_step(denoise, MEAN, table.padded(rows + 5), keys)
    progress = sampling.begin(denoise, x)
    for until in (*cuts, rows):
        progress = sampling.advance(step, progress, jnp.int32(until))
        assert int(progress.rows_done) == until
    whole = sampling.sample(denoise, MEAN, x, table, keys)
    np.testing.assert_allclose(progress.state.x, whole, rtol=1e-5, atol=1e-5)


def test_the_memory_is_carried_from_row_to_row(table, start):
    x, keys = start
    rows = len(table.timestep)
    step = sampling.make_step(COUNTING, MEAN, table.padded(rows), keys)
    for until in range(rows + 1):
        progress = sampling.advance(step, sampling.begin(COUNTING, x), until)
        assert float(progress.memory) == until


def test_a_step_is_the_row_applied_to_the_estimate(table, start):
    """Written out with the row's matrix; the noise belongs to the row and to the image's key."""
    x, keys = start
    padded = table.padded(len(table.timestep))
    progress = sampling.make_step(gaussian, MEAN, padded, keys)(sampling.begin(gaussian, x))
    a, s = table.alpha[0], table.sigma[0]
    m0 = MEAN + 0.25 * a * (x - a * MEAN) / (0.25 * a**2 + s**2)
    noise = jnp.stack(
        [
            jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, 1), 0), SHAPE)
            for key in keys
        ]
    )
    m = table.matrix[0, 0]
    expected = (
        (m[solver_table.X] + m[solver_table.ANCHOR]) * x
        + m[solver_table.M0] * m0
        + m[solver_table.Z] * noise
    )
    np.testing.assert_allclose(progress.x0, m0, atol=1e-5)
    np.testing.assert_allclose(progress.state.x, expected, atol=1e-5)
    np.testing.assert_array_equal(progress.state.m1, progress.x0)


@pytest.mark.parametrize("stop_at", [None, 4])
def test_the_host_watches_and_stops_a_compiled_sampling(table, start, stop_at):
    x, keys = start
    rows, seen = len(table.timestep), []
    step = sampling.make_step(gaussian, MEAN, table.padded(rows), keys)

    def watch(rows_done, mean):
        seen.append((int(rows_done), np.asarray(mean)))
        return np.bool_(rows_done == stop_at)

    @jax.jit
    def run(x):
        return sampling.watched(
            step, sampling.begin(gaussian, x), rows, watch, 2, lambda x0: x0.mean((1, 2, 3))
        )

    progress = jax.block_until_ready(run(x))
    jax.effects_barrier()
    last = stop_at or rows
    assert int(progress.rows_done) == last
    assert [done for done, _ in seen] == [*range(2, last, 2), last]
    np.testing.assert_allclose(seen[-1][1], progress.x0.mean((1, 2, 3)), rtol=1e-6)
    unwatched = sampling.advance(step, sampling.begin(gaussian, x), last)
    np.testing.assert_allclose(progress.state.x, unwatched.state.x, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_slerp_goes_along_the_arc_at_a_constant_rate(weight):
    """The angle from the start is the weight's share of the whole; the norm stays 1."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4, 4, 2)).astype(np.float32)
    a, b = (v / np.linalg.norm(v.reshape(3, -1), axis=1)[:, None, None, None] for v in (a, b))
    found = np.asarray(sampling.slerp(jnp.asarray(a), jnp.asarray(b), weight))
    for start, end, between in zip(a, b, found, strict=True):
        whole = np.arccos(np.vdot(start, end))
        assert np.linalg.norm(between) == pytest.approx(1, abs=1e-5)
        assert np.vdot(start, between) == pytest.approx(np.cos(weight * whole), abs=1e-5)
        assert np.vdot(end, between) == pytest.approx(np.cos((1 - weight) * whole), abs=1e-5)


def test_slerp_keeps_the_norm_of_latents_a_small_angle_apart():
    """At 0.2 radians the chord's middle is 0.5% short; the arc's is not."""
    angle = 0.2
    a = jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2)
    b = jnp.array([np.cos(angle), np.sin(angle)]).reshape(1, 1, 1, 2)
    expected = [np.cos(angle / 2), np.sin(angle / 2)]
    np.testing.assert_allclose(sampling.slerp(a, b, 0.5).ravel(), expected, atol=1e-6)


def test_a_full_variation_starts_from_the_noise_of_the_other_seed():
    keys, others = sampling.image_keys(jnp.arange(2)), sampling.image_keys(jnp.array([7]))
    variation = sampling.Variation(others, jnp.float32(1.0))
    varied = sampling.initial_noise(keys, (4, 4, 2), variation)
    plain = sampling.initial_noise(others, (4, 4, 2))
    np.testing.assert_allclose(varied, np.repeat(plain, 2, axis=0), atol=1e-5)


def test_slerp_of_equal_and_opposite_latents_is_finite():
    a = jnp.ones((1, 2, 2, 1))
    np.testing.assert_allclose(sampling.slerp(a, a, 0.3), a, atol=1e-6)
    assert np.isfinite(sampling.slerp(a, -a, 0.3)).all()


def test_latents_with_tables_of_their_own_are_sampled_as_if_alone():
    """Other solvers, noise and numbers of steps; one begins when another is under way."""
    schedule = schedules.make("cosine", 1000, False)
    tables = [
        solvers.make_table(name, schedule, schedules.timesteps(steps, 1000, "trailing"))
        for name, steps in (("ddpm", 12), ("heun", 6), ("unipc", 9))
    ]
    keys = sampling.image_keys(jnp.arange(3))
    x = sampling.initial_noise(keys, SHAPE)
    each = [
        sampling.sample(gaussian, MEAN[i : i + 1], x[i : i + 1], table, keys[i : i + 1])
        for i, table in enumerate(tables)
    ]
    together = jax.tree.map(lambda *a: jnp.stack(a), *(table.padded(20) for table in tables))
    step = sampling.make_step(gaussian, MEAN, together, keys)
    start = sampling.begin(gaussian, x)._replace(rows_done=jnp.zeros(3, jnp.int32))
    for i, table in enumerate(tables):
        rows = len(table.timestep)
        after = sampling.advance(step, start, start.rows_done + rows)
        np.testing.assert_array_equal(after.rows_done, [rows] * 3)
        np.testing.assert_allclose(after.state.x[i : i + 1], each[i], rtol=1e-5, atol=1e-5)
    late = sampling.advance(step, start, start.rows_done + 5)
    late = jax.tree.map(lambda old, new: jnp.concatenate([old[:1], new[1:]]), start, late)
    late = sampling.advance(step, late, late.rows_done + 4)
    np.testing.assert_array_equal(late.rows_done, [4, 9, 9])
    late = sampling.advance(step, late, late.rows_done + 8)
    np.testing.assert_allclose(late.state.x[:1], each[0], rtol=1e-5, atol=1e-5)
