import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax.nn.autoencoder import AutoencoderKL, Posterior
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.nn.vae_blocks import Downsample, depth_to_space, space_to_depth
from tests.networks import random_network

SMALL = AutoencoderConfig(
    latent_channels=5,
    block_out_channels=(8, 16),
    layers_per_block=1,
    decoder_block_out_channels=(16, 24),
    decoder_layers_per_block=1,
    norm_num_groups=8,
    patch_size=2,
    head_channels=4,
    downsample="symmetric",
)


def test_shapes_and_scaling_of_a_small_model():
    config = AutoencoderConfig.from_dict({**SMALL.to_dict(), "shift_factor": 0.25})
    vae = random_network(lambda rngs: AutoencoderKL(config, rngs=rngs))
    assert vae.downsampling_factor == 4
    posterior = vae.encode(jnp.zeros((2, 16, 24, 3)))
    assert posterior.mean.shape == posterior.logvar.shape == (2, 4, 6, 5)
    assert vae.decode(posterior.mode()).shape == (2, 16, 24, 3)
    z = jax.random.normal(jax.random.key(0), (1, 4, 4, 5))
    np.testing.assert_allclose(vae.scale(z), (z - 0.25) * 0.18215, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(vae.unscale(vae.scale(z)), z, rtol=1e-5, atol=1e-5)


def test_a_longer_decoder_doubles_what_the_encoder_sees():
    plain = AutoencoderKL(SMALL, rngs=nnx.Rngs(0))
    config = dataclasses.replace(SMALL, decoder_block_out_channels=(8, 16, 24))
    double = AutoencoderKL(config, rngs=nnx.Rngs(0))
    assert config.decoder_scale == 2
    assert double.downsampling_factor == 2 * plain.downsampling_factor
    nnx.update(double.encoder, nnx.state(plain.encoder))
    nnx.update(double.quant_conv, nnx.state(plain.quant_conv))
    side = 2 * double.downsampling_factor
    pixels = jax.random.uniform(jax.random.key(0), (2, side, side, 3), minval=-1.0)
    means = pixels.reshape(2, side // 2, 2, side // 2, 2, 3).mean((2, 4))
    actual, expected = double.encode(pixels), plain.encode(means)
    np.testing.assert_allclose(actual.mean, expected.mean, atol=1e-5)
    np.testing.assert_allclose(actual.logvar, expected.logvar, atol=1e-5)
    assert double.decode(actual.mode()).shape == pixels.shape
    with pytest.raises(ValueError, match="multiples of"):
        double.encode(pixels[:, :-2])


def test_pixels_of_a_wrong_size_are_refused():
    vae = random_network(lambda rngs: AutoencoderKL(SMALL, rngs=rngs))
    with pytest.raises(ValueError, match="multiples of 4"):
        vae.encode(jnp.zeros((1, 16, 18, 3)))


def test_space_to_depth_keeps_each_cell_and_is_inverted():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    cells = space_to_depth(x, 2)
    np.testing.assert_array_equal(cells[1, 1, 2], np.asarray(x)[1, 2:4, 4:6].ravel())
    np.testing.assert_array_equal(depth_to_space(cells, 2), x)


def test_kl_is_the_closed_form():
    # Σ over 4 elements of ½ (μ² + σ² - 1 - ln σ²), with μ = 2, σ = 3.
    posterior = Posterior(jnp.full((1, 2, 2, 1), 2.0), jnp.full((1, 2, 2, 1), np.log(9.0)))
    np.testing.assert_allclose(posterior.kl(), [4 * 0.5 * (4 + 9 - 1 - np.log(9.0))], rtol=1e-6)
    standard = Posterior(jnp.zeros((3, 2, 2, 4)), jnp.zeros((3, 2, 2, 4)))
    np.testing.assert_array_equal(standard.kl(), np.zeros(3))


def test_posterior_samples_have_its_moments():
    posterior = Posterior(jnp.full((1, 64, 64, 4), 1.5), jnp.full((1, 64, 64, 4), np.log(0.25)))
    z = posterior.sample(jax.random.key(3))
    assert abs(z.mean() - 1.5) < 0.02
    assert abs(z.std() - 0.5) < 0.02


def test_logvar_is_clipped():
    vae = random_network(lambda rngs: AutoencoderKL(SMALL, rngs=rngs))
    vae.quant_conv.bias[...] = jnp.asarray([0.0] * 5 + [1000.0] * 5)
    assert (vae.encode(jnp.zeros((1, 8, 8, 3))).logvar == 20.0).all()


@pytest.mark.parametrize(("kind", "commutes"), [("symmetric", True), ("asymmetric", False)])
def test_downsampling_commutes_with_half_turns_if_symmetric(kind, commutes):
    layer = Downsample(4, kind, rngs=nnx.Rngs(0))
    kernel = layer.conv.kernel[...]
    layer.conv.kernel[...] = kernel + kernel[::-1, ::-1]
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 4))
    turned = layer(jnp.rot90(x, 2, axes=(1, 2)))
    expected = jnp.rot90(layer(x), 2, axes=(1, 2))
    assert turned.shape == (2, 4, 4, 4)
    assert bool(jnp.allclose(turned, expected, atol=1e-5)) == commutes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chanels": 3}, r"unknown .*'chanels'"),
        ({"latent_channels": 0}, "latent_channels must be a positive integer"),
        ({"layers_per_block": True}, "layers_per_block must be a positive integer"),
        ({"block_out_channels": []}, "block_out_channels must be a non-empty tuple"),
        ({"block_out_channels": [100]}, "multiple of norm_num_groups"),
        ({"decoder_block_out_channels": [32]}, "at least as many entries"),
        ({"downsample": "skew"}, "downsample must be one of"),
        ({"scaling_factor": float("nan")}, "scaling_factor must be a positive number"),
        ({"shift_factor": float("inf")}, "shift_factor must be a finite number"),
        ({"head_channels": -1}, "head_channels must be a non-negative integer"),
    ],
)
def test_bad_configurations_name_the_field(change, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderConfig.from_dict(change)


def test_configuration_survives_json():
    assert AutoencoderConfig.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL
