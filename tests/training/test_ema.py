"""Averages against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.training import ema
from dg2_jax.training.config import EmaConfig


def run(decay, values, start):
    average = {"w": jnp.asarray(start, jnp.float32)}
    for t, value in enumerate(values, start=1):
        average = ema.update(average, {"w": jnp.float32(value)}, decay(jnp.int32(t)))
    return float(average["w"])


def test_warmup_decay_values():
    decay = ema.warmup_decay(0.5)
    assert float(decay(jnp.int32(1))) == pytest.approx(1 / 10)
    assert float(decay(jnp.int32(4))) == pytest.approx(4 / 13)
    assert float(decay(jnp.int32(1000))) == 0.5


def test_constant_decay_is_a_geometric_mean_of_the_past():
    # (1 + s)/(10 + s) >= 0.1 always, so a limit of 0.1 is a constant decay: closed form below.
    values = np.arange(1.0, 9.0)
    weights = 0.9 * 0.1 ** np.arange(7, -1, -1)
    expected = 0.1**8 * 5.0 + np.sum(weights * values)
    assert run(ema.warmup_decay(0.1), values, 5.0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.10, 0.25])
def test_power_gamma_solves_its_equation(sigma_rel):
    gamma = ema.power_gamma(sigma_rel)
    assert gamma > 0
    width = (gamma + 1) ** 0.5 / ((gamma + 2) * (gamma + 3) ** 0.5)
    assert width == pytest.approx(sigma_rel, rel=1e-9)


def test_power_profile_weighs_time_by_a_power():
    # The average of w(τ) = τ under a density (γ+1) τ^γ / T^(γ+1) on [0, T] is T (γ+1)/(γ+2).
    gamma, steps = ema.power_gamma(0.10), 2000
    average = run(ema.power_decay(0.10), np.arange(1, steps + 1), 1e6)  # the start is forgotten
    assert average == pytest.approx(steps * (gamma + 1) / (gamma + 2), rel=2e-3)


def test_profile_is_chosen_by_the_configuration():
    t = jnp.int32(50)
    warmup, power = (ema.make_decay(EmaConfig(profile=p))(t) for p in ("warmup", "power"))
    assert float(warmup) == pytest.approx(50 / 59)
    assert float(power) == pytest.approx((1 - 1 / 50) ** (ema.power_gamma(0.10) + 1), rel=1e-5)


def test_profile_product_is_the_integral():
    (t_a, gamma_a), (t_b, gamma_b) = (50.0, 3.2), (80.0, 6.9)
    tau = (np.arange(200_000) + 0.5) * (50.0 / 200_000)
    p_a, p_b = ((g + 1) * tau**g / t ** (g + 1) for t, g in ((t_a, gamma_a), (t_b, gamma_b)))
    integral = np.sum(p_a * p_b) * (50.0 / 200_000)
    assert ema.profile_product(t_a, gamma_a, t_b, gamma_b) == pytest.approx(integral, rel=1e-6)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.07, 0.15, 0.2])
@pytest.mark.parametrize("end", [512, 448])
def test_any_width_can_be_had_afterwards(sigma_rel, end):
    # Weights that drift and jitter, as in training: random walks.
    walk = np.cumsum(np.random.default_rng(0).normal(size=(512, 64)), axis=0)

    def track(sigma):
        """The average after every step."""
        average, actual = np.zeros(64), []
        for t, value in enumerate(walk, start=1):
            beta = (1 - 1 / t) ** (ema.power_gamma(sigma) + 1)
            average = beta * average + (1 - beta) * value
            actual.append(average)
        return np.stack(actual)

    pairs = [(sigma, step) for sigma in (0.05, 0.10) for step in range(32, 513, 32)]
    kept = np.concatenate([track(sigma)[31::32] for sigma in (0.05, 0.10)])
    weights = ema.posthoc_weights([t for _, t in pairs], [s for s, _ in pairs], end, sigma_rel)
    target = track(sigma_rel)[end - 1]
    # Relative to how far the average is from the weights themselves.
    scale = np.linalg.norm(walk[end - 1] - target)
    assert np.linalg.norm(weights @ kept - target) < 0.01 * scale
    if sigma_rel != 0.05:  # and no average that was kept would do
        assert np.linalg.norm(kept - target, axis=1).min() > 0.05 * scale


@pytest.mark.parametrize(("sigma_rel", "end"), [(0.02, 512), (0.2, 480), (0.25, 512), (0.15, 200)])
def test_a_width_that_is_hard_to_reach_keeps_the_scale_of_the_weights(sigma_rel, end):
    """Weights of size 10 that drift by 1: what is reconstructed stays within the drift."""
    time = np.arange(1, 513) / 512
    drifting = 10.0 + time[:, None] ** np.array([0.5, 1.0, 2.0])

    def average(sigma, step):
        actual = np.zeros(3)
        for t, value in enumerate(drifting[:step], start=1):
            beta = (1 - 1 / t) ** (ema.power_gamma(sigma) + 1)
            actual = beta * actual + (1 - beta) * value
        return actual

    pairs = [(0.05, 128), (0.05, 256), (0.05, 512), (0.10, 512)]
    weights = ema.posthoc_weights([t for _, t in pairs], [s for s, _ in pairs], end, sigma_rel)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    kept = np.stack([average(sigma, step) for sigma, step in pairs])
    true = average(sigma_rel, end)
    np.testing.assert_allclose(weights @ kept, true, atol=0.3)


def test_the_average_wanted_may_not_end_beyond_the_last_kept():
    with pytest.raises(ValueError, match=r"step must be in \[1, 8\], the last average kept, got 9"):
        ema.posthoc_weights([4, 8], [0.1, 0.1], 9, 0.05)
