"""An autoencoder in tiles: equal where it may be, near elsewhere, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax.models import folder
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.nn.tiling import Tiled, in_tiles
from tests.networks import random_network

CONFIG = AutoencoderConfig(
    block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4
)


def vae():
    return random_network(lambda rngs: AutoencoderKL(CONFIG, rngs=rngs))


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


def smooth(*shape):
    """Latents with structure of a few cells, as pictures have it."""
    noise = np.random.default_rng(0).normal(size=shape)
    for axis in (1, 2):
        noise = sum(np.roll(noise, i, axis) for i in range(4)) / 2
    return jnp.asarray(noise, jnp.float32)


@pytest.mark.parametrize("size", [(5, 5), (16, 17), (40, 16), (23, 61), (64, 33)])
def test_what_looks_at_one_cell_is_exact(size):
    x = smooth(2, *size, 3)
    same = in_tiles(lambda x: x + 1.0, x, 16, 6, (1, 1))
    np.testing.assert_allclose(same, x + 1.0, atol=1e-5)

    def doubled(x):
        return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)

    np.testing.assert_allclose(in_tiles(doubled, x, 16, 6, (1, 2)), doubled(x), atol=1e-5)
    large = doubled(x)
    halved = in_tiles(lambda x: x[:, ::2, ::2], large, 16, 6, (2, 1))
    np.testing.assert_allclose(halved, x, atol=1e-5)


def test_pictures_of_a_trained_autoencoder_are_near_those_of_the_whole():
    model = folder.load("demo")
    network = model.autoencoder.bind(model.autoencoder_params)
    tiled, side = Tiled(network, 16, 6), 192  # 24 cells
    y, x = np.mgrid[:side, :side] / side
    hills = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * y), x * y], -1)
    hills[np.hypot(x - 0.6, y - 0.4) < 0.2] = (0.9, 0.6, -0.8)
    pixels = jnp.asarray(hills[None], jnp.float32)
    exact, near = network.encode(pixels), tiled.encode(pixels)
    assert near.mean.shape == near.logvar.shape == exact.mean.shape
    assert 0 < rms(near.mean - exact.mean) < 0.1 * np.std(exact.mean)
    whole, parts = network.decode(exact.mean), tiled.decode(exact.mean)
    assert parts.shape == whole.shape == pixels.shape
    assert 0 < rms(parts - whole) < 0.02  # a hundredth of the range
    for axis in (0, 1):  # no seams: from row to row the change is as in the whole
        steps = [np.abs(np.diff(a[0], axis=axis)).mean((1 - axis, 2)) for a in (parts, whole)]
        assert np.abs(steps[0] - steps[1]).max() < 0.1 * steps[1].max()
    assert tiled.downsampling_factor == network.downsampling_factor


def test_what_fits_a_tile_is_one():
    network, latents = vae(), smooth(1, 12, 16, 4)
    tiled = Tiled(network, 16, 6)
    np.testing.assert_array_equal(tiled.decode(latents), network.decode(latents))


def test_memory_does_not_grow_with_the_picture():
    graphdef, params = nnx.split(vae())

    def peak(side, tile, batch=1):
        latents = jax.ShapeDtypeStruct((batch, side, side, 4), jnp.float32)
        run = jax.jit(lambda p, z: Tiled(nnx.merge(graphdef, p), tile, 8).decode(z))
        compiled = run.lower(params, latents).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    whole, parts = peak(192, 192), peak(192, 32)
    assert parts < 0.2 * whole
    assert peak(96, 32) == pytest.approx(parts, rel=0.1)
    assert peak(96, 32, batch=4) == pytest.approx(parts, rel=0.1)
