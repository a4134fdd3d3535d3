"""Conversions between predictions, Min-SNR weights, and how timesteps are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dg2_jax.diffusion import losses, prediction, schedules


def normal(seed, shape=(2, 4, 4, 3)):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("prediction_type", prediction.PREDICTION_TYPES)
@given(angle=st.floats(0.05, 1.5))
@settings(max_examples=20, deadline=None)
def test_target_converts_back(prediction_type, angle):
    alpha, sigma = float(np.cos(angle)), float(np.sin(angle))
    x0, noise = normal(0), normal(1)
    x = alpha * x0 + sigma * noise
    out = prediction.target(prediction_type, x0, noise, alpha, sigma)
    back = prediction.to_x0(prediction_type, x, out, alpha, sigma)
    np.testing.assert_allclose(back, x0, atol=1e-4)


def test_v_prediction_is_defined_at_pure_noise():
    x0, noise = normal(0), normal(1)
    out = prediction.target("v_prediction", x0, noise, 0.0, 1.0)
    np.testing.assert_allclose(
        prediction.to_x0("v_prediction", noise, out, 0.0, 1.0), x0, atol=1e-6
    )


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_gives_the_same_x0_loss_for_every_prediction(gamma):
    """The weighted loss of a wrong x0 is min(SNR, γ)·|error|² for each way to write it."""
    alpha_bar = jnp.asarray(schedules.make("cosine").alpha_bar[::97], jnp.float32)
    t = jnp.arange(len(alpha_bar))
    shape = (len(t), 2, 2, 3)
    x0, noise, wrong = normal(0, shape), normal(1, shape), normal(2, shape)
    alpha = jnp.sqrt(alpha_bar)[:, None, None, None]
    sigma = jnp.sqrt(1 - alpha_bar)[:, None, None, None]
    estimate = x0 + 0.1 * wrong

    def output(prediction_type):
        noise_of = (alpha * x0 + sigma * noise - alpha * estimate) / sigma
        return prediction.target(prediction_type, estimate, noise_of, alpha, sigma)

    snr = np.asarray(alpha_bar / (1 - alpha_bar))
    expected = np.minimum(snr, gamma) * np.mean((0.1 * np.asarray(wrong)) ** 2, axis=(1, 2, 3))
    for kind in prediction.PREDICTION_TYPES:
        loss = losses.denoising_loss(
            lambda x, t, kind=kind: output(kind),
            x0,
            noise,
            t,
            alpha_bar,
            prediction_type=kind,
            min_snr_gamma=gamma,
        )
        np.testing.assert_allclose(loss, expected, rtol=2e-3)


def test_min_snr_weight_is_one_at_pure_noise():
    for kind in prediction.PREDICTION_TYPES:
        assert losses.min_snr_weight(jnp.zeros(1), 5.0, kind)[0] == 1.0
        np.testing.assert_array_equal(losses.min_snr_weight(jnp.ones(3), None, kind), 1.0)
    with pytest.raises(ValueError, match="min_snr_gamma must be above 0"):
        losses.min_snr_weight(jnp.ones(1), 0.0, "epsilon")


@given(seed=st.integers(0, 2**31 - 1), batch=st.integers(1, 64))
@settings(max_examples=25, deadline=None)
def test_stratified_timesteps_take_one_of_each_part(seed, batch):
    t = np.asarray(losses.stratified_timesteps(jax.random.key(seed), batch, 1000))
    assert t.min() >= 0
    assert t.max() <= 999
    parts = np.sort(t * batch // 1000)
    assert np.all(np.abs(parts - np.arange(batch)) <= 1)


def test_stratified_timesteps_reach_both_ends():
    draw = jax.jit(lambda k: losses.stratified_timesteps(k, 64, 1000))
    t = np.stack([draw(k) for k in jax.random.split(jax.random.key(0), 200)])
    assert t.min() == 0  # the published code never trained t = 0, which it samples
    assert t.max() == 999
    assert abs(t.mean() - 499.5) < 2


def test_unknown_prediction_type():
    with pytest.raises(ValueError, match="prediction_type must be one of epsilon, v_prediction"):
        prediction.check("velocity")
