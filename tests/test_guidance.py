"""Guidance as algebra: what each transform must equal for denoisers that are known functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax import guidance
from dg2_jax.guidance import Level

LEVEL = Level(jnp.int32(500), jnp.float32(0.6), jnp.float32(0.8))


def linear_denoiser(x, level, conditioning):
    """x0 = level.alpha x + conditioning, so that each branch can be told apart."""
    return level.alpha * x + conditioning[:, None, None, None]


def inputs(batch=3):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(batch, 4, 4, 2)), jnp.float32)
    return x, jnp.arange(1.0, batch + 1), -jnp.arange(1.0, batch + 1)


def test_classifier_free_is_the_affine_combination():
    x, c, u = inputs()
    w = jnp.array([1.0, 3.0, 7.5])
    got = guidance.classifier_free(linear_denoiser, w)(x, LEVEL, guidance.pair(c, u))
    expected = 0.6 * x + (u + w * (c - u))[:, None, None, None]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(got[0], linear_denoiser(x, LEVEL, c)[0], rtol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_guidance_commutes_with_the_prediction_type(kind):
    """Combining x0 estimates equals converting the combined outputs."""
    x, c, u = inputs()

    def network(x, t, conditioning):
        return jnp.sin(x) * conditioning[:, None, None, None] + t[:, None, None, None] / 1000.0

    w = jnp.full(3, 4.0)
    denoise = guidance.denoiser(network, kind)
    got = guidance.classifier_free(denoise, w)(x, LEVEL, guidance.pair(c, u))
    t = jnp.full(3, 500)
    out = network(x, t, u) + 4.0 * (network(x, t, c) - network(x, t, u))
    expected = guidance.prediction.to_x0(kind, x, out, 0.6, 0.8)
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)


def test_rescale_restores_the_conditional_deviation():
    x, c, u = inputs()

    def denoise(x, level, conditioning):
        return x * conditioning[:, None, None, None]

    w = jnp.full(3, 6.0)
    full = guidance.classifier_free(denoise, w, jnp.ones(3))(x, LEVEL, guidance.pair(c, u))
    conditional = denoise(x, LEVEL, c)
    np.testing.assert_allclose(full.std(axis=(1, 2, 3)), conditional.std(axis=(1, 2, 3)), rtol=1e-4)
    none = guidance.classifier_free(denoise, w, jnp.zeros(3))(x, LEVEL, guidance.pair(c, u))
    plain = guidance.classifier_free(denoise, w)(x, LEVEL, guidance.pair(c, u))
    np.testing.assert_allclose(none, plain, rtol=1e-6)


def test_interval_guides_inside_and_skips_the_second_branch_outside():
    x, c, u = inputs()
    batches = []

    def counting(x, level, conditioning):
        jax.debug.callback(lambda n=x.shape[0]: batches.append(n))
        return linear_denoiser(x, level, conditioning)

    guided = guidance.classifier_free(counting, jnp.full(3, 5.0))
    both = guidance.within_interval(guided, counting, (jnp.float32(0.2), jnp.float32(0.7)))
    run = jax.jit(both)
    outside = run(x, LEVEL, guidance.pair(c, u))
    jax.effects_barrier()
    assert batches == [3]
    np.testing.assert_allclose(outside, linear_denoiser(x, LEVEL, c), rtol=1e-6)
    inside = LEVEL._replace(sigma=jnp.float32(0.5))
    np.testing.assert_allclose(
        run(x, inside, guidance.pair(c, u)), guided(x, inside, guidance.pair(c, u)), rtol=1e-6
    )
