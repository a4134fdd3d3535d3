"""Denoisers: of functions without memory, and of networks."""

import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion import denoiser
from dg2_jax.diffusion.denoiser import Level

LEVEL = Level(jnp.int32(7), jnp.float32(0.6), jnp.float32(0.8))
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 4, 2)), jnp.float32)


def test_a_function_is_a_denoiser_with_an_empty_memory():
    denoise = denoiser.stateless(lambda x, level, conditioning: level.sigma * x + conditioning)
    assert denoise.init(X) == ()
    x0, memory = denoise.apply(X, LEVEL, 2.0, ())
    assert memory == ()
    np.testing.assert_allclose(x0, 0.8 * X + 2.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("epsilon", lambda x, out: (x - 0.8 * out) / 0.6),
        ("v_prediction", lambda x, out: 0.6 * x - 0.8 * out),
        ("sample", lambda x, out: out),
    ],
)
def test_the_output_of_a_network_becomes_an_estimate_of_x0(kind, expected):
    """The network is told the timestep for every image, and its own conditioning."""

    def network(x, t, conditioning):
        assert t.shape == (3,)
        return x**2 + t[:, None, None, None] + conditioning

    x0, _ = denoiser.of_network(network, kind).apply(X, LEVEL, 1.5, ())
    np.testing.assert_allclose(x0, expected(X, X**2 + 7 + 1.5), rtol=1e-4, atol=1e-5)


def test_an_unknown_prediction_type():
    with pytest.raises(ValueError, match="prediction_type"):
        denoiser.of_network(lambda x, t, c: x, "score")
