"""Solvers against the closed form: Gaussian data has a known best denoiser and a known flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion import sampling, schedules, solver_table, solvers
from dg2_jax.diffusion.denoiser import Level, stateless
from dg2_jax.diffusion.schedules import Schedule

MEAN, STD = 0.8, 0.3
DETERMINISTIC = ("ddim", "dpmpp_2m", "unipc", "heun", "euler")
STOCHASTIC = ("ddpm", "ddpm_large", "dpmpp_2m_sde", "euler_ancestral")


def gaussian_denoiser(x, level, conditioning):
    """E[x0 | x] for x0 ~ N(MEAN, STD^2)."""
    variance = level.alpha**2 * STD**2 + level.sigma**2
    return MEAN + level.alpha * STD**2 / variance * (x - level.alpha * MEAN)


def exact_flow(x, alpha, sigma, alpha_p, sigma_p):
    """Where the probability-flow ODE takes x between two levels."""
    ratio = (alpha_p**2 * STD**2 + sigma_p**2) / (alpha**2 * STD**2 + sigma**2)
    return alpha_p * MEAN + np.sqrt(ratio) * (x - alpha * MEAN)


def uniform_in_lambda(levels):
    """A schedule whose log-SNR falls in equal steps, so that a stride is an exact step size."""
    return Schedule("uniform", 1.0 / (1.0 + np.exp(-2.0 * np.linspace(3.0, -3.0, levels))))


def run(table, x, noise=None):
    """The rows of a table from `x` by `solver_table.step` itself, in float64.

    `noise` (rows, *x.shape) is what the rows draw; zero if left out.
    """
    with jax.enable_x64(True):
        state = solver_table.init(jnp.asarray(x, jnp.float64))
        for row in range(len(table.timestep)):
            level = Level(table.timestep[row], table.alpha[row], table.sigma[row])
            m0 = gaussian_denoiser(state.x, level, None)
            z = jnp.zeros_like(m0) if noise is None else jnp.asarray(noise[row], jnp.float64)
            state = solver_table.step(state, jnp.asarray(table.matrix[row]), m0, z)
        assert state.x.dtype == jnp.float64
        return np.asarray(state.x)


def responses(run_rows, rows):
    """Mean and deviation of what `run_rows(x, noise)` gives for x and noise drawn from N(0, I).

    The denoiser is affine, so the result is an affine function of the start and of each row's
    noise: its mean is the result of zeros, its variance the sum of the squared responses to each.
    """
    x, noise = np.zeros(rows + 2), np.zeros((rows, rows + 2))
    x[1] = 1.0
    noise[np.arange(rows), np.arange(2, rows + 2)] = 1.0
    shape = (rows + 2, 1, 1, 1)
    out = run_rows(x.reshape(shape), noise.reshape(rows, *shape)).ravel()
    return out[0], np.sqrt(np.sum((out[1:] - out[0]) ** 2))


def exact_moments(table):
    return responses(lambda x, noise: run(table, x, noise), len(table.timestep))


def levels_of(schedule, t):
    return np.append(schedule.alpha[t], 1.0), np.append(schedule.sigma[t], 0.0)


def best(x, a, s):
    return gaussian_denoiser(x, Level(0, a, s), None)


def textbook_ddim(x, noise, alpha, sigma, eta):
    """Song et al., arXiv 2010.02502, equations 12 and 16, in the cumulative products."""
    for i, z in enumerate(noise):
        bar, bar_p = alpha[i] ** 2, alpha[i + 1] ** 2
        m0 = best(x, alpha[i], sigma[i])
        eps = (x - np.sqrt(bar) * m0) / np.sqrt(1 - bar)
        s = eta * np.sqrt((1 - bar_p) / (1 - bar) * (1 - bar / bar_p))
        x = np.sqrt(bar_p) * m0 + np.sqrt(1 - bar_p - s**2) * eps + s * z
    return x


def textbook_ddpm(x, noise, alpha, sigma, large):
    """Ho et al., arXiv 2006.11239, equation 7, with the respaced one-step product."""
    for i, z in enumerate(noise):
        bar, bar_p = alpha[i] ** 2, alpha[i + 1] ** 2
        a = bar / bar_p
        m0 = best(x, alpha[i], sigma[i])
        mean = np.sqrt(bar_p) * (1 - a) / (1 - bar) * m0 + np.sqrt(a) * (1 - bar_p) / (1 - bar) * x
        variance = (1 - a) if large else (1 - a) * (1 - bar_p) / (1 - bar)
        x = mean + (np.sqrt(variance) * z if i < len(noise) - 1 else 0.0)
    return x


def textbook_2m(x, noise, alpha, sigma, stochastic):
    """Lu et al., arXiv 2211.01095, algorithm 2 and equation 19, in λ."""
    before, h_before = None, None
    for i, z in enumerate(noise):
        m0 = best(x, alpha[i], sigma[i])
        if i == len(noise) - 1:
            return m0
        h = np.log(alpha[i + 1] / sigma[i + 1]) - np.log(alpha[i] / sigma[i])
        d = m0 if before is None else m0 + h / (2 * h_before) * (m0 - before)
        k = 2.0 if stochastic else 1.0
        x = sigma[i + 1] / sigma[i] * np.exp(-(k - 1) * h) * x + alpha[i + 1] * d * (
            1 - np.exp(-k * h)
        )
        if stochastic:
            x = x + sigma[i + 1] * np.sqrt(1 - np.exp(-2 * h)) * z
        before, h_before = m0, h
    return x


def parabola_weights(lam):
    """∫ exp(l - λ₂) ℓ_j(l) dl over [λ₁, λ₂] for the Lagrange polynomials ℓ_j of three λ."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    half = (lam[2] - lam[1]) / 2
    points = lam[1] + half * (1 + nodes)
    factors = half * weights * np.exp(points - lam[2])
    others = [[(points - lam[k]) / (lam[j] - lam[k]) for k in range(3) if k != j] for j in range(3)]
    return [np.sum(factors * a * b) for a, b in others]


def textbook_unipc(x, noise, alpha, sigma):
    """Zhao et al., arXiv 2302.04867, with the integrals that its order conditions stand for.

    Every step is predicted by DPM-Solver++(2M). With the estimate at its end it is then taken again
    from the same start: along the parabola through three estimates, exactly; while there are but
    two, with B₂(h) and the weight 1/2.
    """
    with np.errstate(divide="ignore"):
        lam = np.log(alpha / sigma)
    start, m = None, []
    for i in range(len(noise)):
        m.append(best(x, alpha[i], sigma[i]))
        if i == len(noise) - 1:
            return m[-1]
        if i > 0:
            h = lam[i] - lam[i - 1]
            if i == 1:
                integral = (1 - np.exp(-h)) * (m[0] + (m[1] - m[0]) / 2)
            else:
                terms = zip(parabola_weights(lam[i - 2 : i + 1]), m[-3:], strict=True)
                integral = sum(weight * estimate for weight, estimate in terms)
            x = sigma[i] / sigma[i - 1] * start + alpha[i] * integral
        start, d, h_next = x, m[-1], lam[i + 1] - lam[i]
        if i > 0:
            d = d + h_next / (2 * h) * (m[-1] - m[-2])
        x = sigma[i + 1] / sigma[i] * start + alpha[i + 1] * (1 - np.exp(-h_next)) * d


def textbook_edm(x, noise, alpha, sigma, kind):
    """Karras et al., arXiv 2206.00364, in x/α and σ/α: Euler, Heun, ancestral Euler."""
    ratio = sigma / alpha
    x = x / alpha[0]
    slope = lambda x, i: (x - best(alpha[i] * x, alpha[i], sigma[i])) / ratio[i]  # noqa: E731
    for i in range(len(alpha) - 1):
        now, to = ratio[i], ratio[i + 1]
        d = slope(x, i)
        if kind == "ancestral":
            up = to / now * np.sqrt(now**2 - to**2)
            x = x + (np.sqrt(to**2 - up**2) - now) * d + up * noise[i]
            continue
        euler = x + (to - now) * d
        x = x + (to - now) * (d + slope(euler, i + 1)) / 2 if kind == "heun" and to else euler
    return x


TEXTBOOK = {
    "ddim": lambda *args: textbook_ddim(*args, 0.0),
    "ddpm": lambda *args: textbook_ddpm(*args, large=False),
    "ddpm_large": lambda *args: textbook_ddpm(*args, large=True),
    "dpmpp_2m": lambda *args: textbook_2m(*args, stochastic=False),
    "dpmpp_2m_sde": lambda *args: textbook_2m(*args, stochastic=True),
    "unipc": textbook_unipc,
    "heun": lambda *args: textbook_edm(*args, "heun"),
    "euler": lambda *args: textbook_edm(*args, "euler"),
    "euler_ancestral": lambda *args: textbook_edm(*args, "ancestral"),
}


@pytest.mark.parametrize("solver", TEXTBOOK)
def test_tables_are_the_textbook_formulas(solver):
    schedule = schedules.make("curved")
    t = schedules.timesteps(20, 1000, "linspace")
    table = solvers.make_table(solver, schedule, t)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 2, 2, 1))
    noise = rng.normal(size=(20, *x.shape))
    expected = TEXTBOOK[solver](x, noise, *levels_of(schedule, t))
    rows = np.zeros((len(table.timestep), *x.shape))  # Heun has two per step, and draws nothing
    rows[: len(noise)] = noise
    np.testing.assert_allclose(run(table, x, rows), expected, rtol=1e-9)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_draws_its_noise_by_eta(eta):
    schedule = schedules.make("curved")
    t = schedules.timesteps(12, 1000, "leading")
    table = solvers.make_table("ddim", schedule, t, eta=eta)
    noise = np.random.default_rng(1).normal(size=(12, 1, 2, 2, 1))
    expected = textbook_ddim(noise[0], noise, *levels_of(schedule, t), eta)
    np.testing.assert_allclose(run(table, noise[0], noise), expected, rtol=1e-9)


@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_a_constant_estimate_is_integrated_exactly(solver):
    # With x0(x) = c the flow is x' = σ'/σ x + (α' - α σ'/σ) c, which exponential integrators and
    # Euler in σ/α reproduce at any step size.
    schedule = schedules.make("cosine")
    table = solvers.make_table(solver, schedule, schedules.timesteps(9, 1000, "linspace"))
    constant = jnp.full((1, 1, 1, 1), 0.7)
    state = solver_table.init(jnp.full((1, 1, 1, 1), -1.3))
    for row in range(len(table.timestep) - 1):
        state = solver_table.step(
            state, jnp.asarray(table.matrix[row]), constant, jnp.zeros_like(constant)
        )
    ratio = table.sigma[-1] / table.sigma[0]
    expected = ratio * -1.3 + (table.alpha[-1] - table.alpha[0] * ratio) * 0.7
    np.testing.assert_allclose(state.x.ravel(), expected, rtol=1e-5)


def drawn_moments(table, n=40_000):
    exact, keys = stateless(gaussian_denoiser), sampling.image_keys(jnp.arange(4))
    x = sampling.initial_noise(keys, (n // 4, 1, 1))
    out = jax.jit(lambda x, k: sampling.sample(exact, None, x, table, k))(x, keys)
    return float(out.mean()), float(out.std())


@pytest.mark.parametrize(
    ("solver", "order"),
    [("ddim", 1), ("euler", 1), ("dpmpp_2m", 2), ("unipc", 2), ("heun", 2)],
)
def test_order_of_convergence(solver, order):
    schedule = uniform_in_lambda(1 + 1280)
    x = np.full((1, 1, 1, 1), 1.7)
    errors, sizes = [], []
    for stride in (64, 32, 16, 8):
        t = np.arange(1280, -1, -stride)
        table = solvers.make_table(solver, schedule, t)
        before_clean = solver_table.SolverTable(*(a[:-1] for a in table))
        a, s = schedule.alpha, schedule.sigma
        truth = exact_flow(x, a[-1], s[-1], a[0], s[0])
        errors.append(float(np.abs(run(before_clean, x) - truth).max()))
        sizes.append(stride)
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope > order - 0.25, (slope, errors)
    if solver == "unipc":  # the corrector raises the order by one (arXiv 2302.04867, theorem 3.1)
        assert slope > 2.5, (slope, errors)


@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_limit_is_the_exact_flow(solver):
    schedule = schedules.make("cosine")
    t = schedules.timesteps(500, 1000, "linspace")
    table = solvers.make_table(solver, schedule, t)
    x = np.linspace(-2, 2, 9).reshape(1, 3, 3, 1)
    truth = exact_flow(x, table.alpha[0], table.sigma[0], 1.0, 0.0)
    np.testing.assert_allclose(run(table, x), truth, atol=0.02)


@pytest.mark.parametrize("solver", DETERMINISTIC + STOCHASTIC)
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_moments_of_samples_are_those_of_the_affine_recursion(solver, zero_terminal_snr):
    schedule = schedules.make("cosine", zero_terminal_snr=zero_terminal_snr)
    t = schedules.timesteps(30, 1000, schedules.default_spacing(schedule))
    table = solvers.make_table(solver, schedule, t)
    mean, std = exact_moments(table)
    n = 40_000
    drawn_mean, drawn_std = drawn_moments(table, n)
    assert drawn_mean == pytest.approx(mean, abs=5 * std / np.sqrt(n))
    assert drawn_std == pytest.approx(std, abs=5 * std / np.sqrt(2 * n))


@pytest.mark.parametrize("solver", DETERMINISTIC + STOCHASTIC)
def test_many_steps_reach_the_data(solver):
    # Errors shrink in proportion to the step size, or faster.
    schedule = schedules.make("cosine")
    errors = []
    for steps in (40, 160):
        t = schedules.timesteps(steps, 1000, "linspace")
        mean, std = exact_moments(solvers.make_table(solver, schedule, t))
        errors.append(abs(mean - MEAN) + abs(std - STD))
    assert errors[1] < min(errors[0] / 2.5, 0.012), errors


def test_respaced_ddpm_keeps_the_mean_where_the_one_step_coefficients_lose_it():
    # Skipped steps with the one-step coefficients give mean 0.139 and deviation 0.888 here.
    schedule = schedules.make("curved")
    table = solvers.make_table("ddpm", schedule, schedules.timesteps(50, 1000, "linspace"))
    mean, std = exact_moments(table)
    assert mean == pytest.approx(MEAN, abs=0.001)
    assert 0.25 < std < 0.3


def test_ddim_with_eta_one_has_the_ancestral_posterior():
    schedule = schedules.make("curved")
    t = schedules.timesteps(20, 1000, "trailing")
    ddim = solvers.make_table("ddim", schedule, t, eta=1.0)
    ddpm = solvers.make_table("ddpm", schedule, t)
    np.testing.assert_allclose(ddim.matrix, ddpm.matrix, atol=1e-12)


def test_first_order_rows_use_no_earlier_estimate():
    schedule = schedules.make("curved")
    t = schedules.timesteps(8, 1000, "linspace")
    for solver in solvers.SOLVERS:
        matrix = solvers.make_table(solver, schedule, t).matrix
        uses_history = bool(
            np.any(matrix[:, 0, [solver_table.ANCHOR, solver_table.M1, solver_table.M2]])
        )
        assert uses_history == (solver not in solvers.FIRST_ORDER), solver


def test_unipc_corrects_by_the_mean_of_two_estimates_after_a_start_at_pure_noise():
    """The estimate at α = 0 lies at λ = -∞: no divided difference can be taken to it."""
    schedule = schedules.make("curved", zero_terminal_snr=True)
    t = schedules.timesteps(4, 1000, "trailing")
    alpha, sigma = levels_of(schedule, t)
    assert alpha[0] == 0
    corrected = solvers.make_table("unipc", schedule, t).matrix[2, 1]
    h = np.log(alpha[2] / sigma[2]) - np.log(alpha[1] / sigma[1])
    half = -0.5 * alpha[2] * np.expm1(-h)
    names = (solver_table.ANCHOR, solver_table.M0, solver_table.M1, solver_table.M2)
    expected = [sigma[2] / sigma[1], half, half, 0.0]
    np.testing.assert_allclose(corrected[list(names)], expected, atol=1e-9)


def test_every_table_ends_in_the_clean_estimate_without_noise():
    schedule = schedules.make("curved", zero_terminal_snr=True)
    for solver in solvers.SOLVERS:
        for steps in (1, 2, 3, 14, 15, 50):
            t = schedules.timesteps(steps, 1000, "trailing")
            table = solvers.make_table(solver, schedule, t)
            assert np.isfinite(table.matrix).all(), (solver, steps)
            np.testing.assert_allclose(table.matrix[-1, 0], [0, 0, 1, 0, 0, 0], atol=1e-12)


def test_lcm_noises_each_estimate_again():
    schedule = schedules.make("curved")
    table = solvers.make_table("lcm", schedule, np.array([999, 759, 499, 259]))
    x, m0, noise = (jnp.full((1, 1, 1, 1), n) for n in (5.0, 2.0, 3.0))
    matrix = jnp.asarray(table.matrix[0], jnp.float32)
    state = solver_table.step(solver_table.init(x), matrix, m0, noise)
    expected = 2.0 * schedule.alpha[759] + 3.0 * schedule.sigma[759]
    assert state.x.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "heun"])
def test_the_last_step_may_leave_the_least_noise(solver):
    schedule = schedules.make("curved")
    t = schedules.timesteps(10, 1000, "leading", offset=1)
    assert t[[0, -1]].tolist() == [901, 1]
    table = solvers.make_table(solver, schedule, t, final_alpha_bar=schedule.alpha_bar[0])
    # Along the path of one point, x = α x₀ + σ ε at every level, each row leads to the next.
    x0, noise = 0.7, -1.3
    x = anchor = table.alpha[0] * x0 + table.sigma[0] * noise
    for row in zip(*table, strict=True):
        basis = np.array([x, anchor, x0, x0, x0, 0.0])
        x, anchor = row[-1] @ basis
    assert x == pytest.approx(schedule.alpha[0] * x0 + schedule.sigma[0] * noise, abs=1e-9)
    with pytest.raises(ValueError, match="final_alpha_bar must be"):
        solvers.make_table(solver, schedule, t, final_alpha_bar=0.5)


@pytest.mark.parametrize("solver", solvers.SOLVERS)
def test_rows_carry_consecutive_levels(solver):
    schedule = schedules.make("linear")
    t = schedules.timesteps(7, 1000, "linspace")
    table = solvers.make_table(solver, schedule, t)
    np.testing.assert_array_equal(table.alpha, schedule.alpha[table.timestep])
    np.testing.assert_array_equal(table.sigma, schedule.sigma[table.timestep])
    np.testing.assert_array_equal(table.next_alpha, np.append(table.alpha[1:], 1.0))
    np.testing.assert_array_equal(table.next_sigma, np.append(table.sigma[1:], 0.0))
    expected = np.append(t[0], t[1:].repeat(2)) if solver == "heun" else t
    np.testing.assert_array_equal(table.timestep, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "plms"}, "solver must be one of"),
        ({"eta": 1.5}, "eta must be from 0 to 1"),
        ({"timesteps": np.array([10, 10])}, "strictly decreasing"),
        ({"timesteps": np.array([1000, 10])}, "from 0 to 999"),
        ({"timesteps": np.array([], int)}, "non-empty"),
    ],
)
def test_bad_arguments(arguments, message):
    good = {"solver": "ddim", "timesteps": np.array([999, 0]), "eta": 0.0}
    with pytest.raises(ValueError, match=message):
        solvers.make_table(schedule=schedules.make("linear"), **{**good, **arguments})
