"""An autoencoder in tiles: equal where it may be, near elsewhere, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.nn.tiling import Tiled, in_tiles
from tests.networks import random_network

CONFIG = AutoencoderConfig(
    block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4
)


def vae():
    return random_network(lambda rngs: AutoencoderKL(CONFIG, rngs=rngs))


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


def test_pictures_are_near_those_of_the_whole():
    network = vae()
    tiled, latents = Tiled(network, 16, 6), smooth(2, 40, 28, 4)
    whole, parts = network.decode(latents), tiled.decode(latents)
    assert parts.shape == whole.shape == (2, 80, 56, 3)
    error = np.sqrt(np.mean((parts - whole) ** 2))
    assert 0 < error < 0.1 * np.std(whole)
    # No seams: from row to row the change is as in the whole.
    rows = [np.abs(np.diff(a, axis=1)).mean((0, 2, 3)) for a in (parts, whole)]
    assert rows[0].max() < 1.3 * rows[1].max()
    pixels = jnp.tanh(whole)
    exact, near = network.encode(pixels), tiled.encode(pixels)
    assert near.mean.shape == exact.mean.shape
    assert np.sqrt(np.mean((near.mean - exact.mean) ** 2)) < 0.1 * np.std(exact.mean)
    assert tiled.downsampling_factor == 2


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

    whole, parts = peak(96, 96), peak(96, 32)
    assert parts < 0.35 * whole
    result = 4 * 3 * 192 * 192  # bytes, which tiles add up in
    assert peak(96, 32, batch=4) < parts + 2 * 4 * result
