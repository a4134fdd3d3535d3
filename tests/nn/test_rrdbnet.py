"""The super-resolution networks against a plain numpy reading of their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.rrdbnet import (
    RRDBNet,
    SRVGGNetCompact,
    nearest_upsample,
    pixel_unshuffle,
)


def random_network(build):
    """Every parameter from a normal distribution, so that no term is zero."""
    graphdef, params = nnx.split(abstract(build))
    draw = np.random.default_rng(0).normal
    params = jax.tree.map(lambda p: jnp.asarray(draw(0, 0.1, p.shape), p.dtype), params)
    return nnx.merge(graphdef, params)


def image(*shape):
    return jnp.asarray(np.random.default_rng(1).uniform(size=shape), jnp.float32)


def conv(x, kernel, bias):
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    windows = [[padded[i : i + height, j : j + width] for j in range(3)] for i in range(3)]
    return np.einsum("ijhwc,ijco->hwo", np.array(windows), np.asarray(kernel)) + np.asarray(bias)


def plain(layer, x):
    return conv(x, layer.kernel[...], layer.bias[...])


def leaky(x):
    return np.maximum(x, 0.2 * x)


def double(x):
    return x.repeat(2, 0).repeat(2, 1)


def unshuffle(x, r):
    channels = [x[dy::r, dx::r, c] for c in range(3) for dy in range(r) for dx in range(r)]
    return np.stack(channels, -1)


def rrdbnet(net, x):
    first = plain(net.conv_first, unshuffle(x, net.unshuffle))
    trunk = net.trunk
    y = first
    for n in range(trunk.kernels[0][...].shape[0]):
        z = y
        for r in range(3):
            seen = [z]
            for j in range(5):
                kernel, bias = trunk.kernels[j][...][n, r], trunk.biases[j][...][n, r]
                output = conv(np.concatenate(seen, -1), kernel, bias)
                seen.append(leaky(output))
            z = z + 0.2 * output
        y = y + 0.2 * z
    y = first + plain(net.conv_body, y)
    y = leaky(plain(net.conv_up1, double(y)))
    y = leaky(plain(net.conv_up2, double(y)))
    return plain(net.conv_last, leaky(plain(net.conv_hr, y)))


@pytest.mark.parametrize("scale", [4, 2, 1])
def test_rrdbnet_is_its_definition(scale):
    net = random_network(lambda rngs: RRDBNet(2, scale, features=8, growth=4, rngs=rngs))
    x = image(1, 8, 12, 3)
    out = np.asarray(net(x))
    assert out.shape == (1, 8 * scale, 12 * scale, 3)
    np.testing.assert_allclose(out[0], rrdbnet(net, np.asarray(x[0])), atol=2e-5)


@pytest.mark.parametrize("scale", [2, 3])
def test_srvgg_is_its_definition(scale):
    net = random_network(lambda rngs: SRVGGNetCompact(2, scale, features=8, rngs=rngs))
    x = image(1, 5, 7, 3)
    y = np.asarray(x[0])
    for layer, slope in zip(list(net.convs)[:-1], net.slopes, strict=True):
        y = plain(layer, y)
        y = np.where(y > 0, y, y * np.asarray(slope[...]))
    y = plain(net.convs[-1], y)
    expected = np.asarray(x[0]).repeat(scale, 0).repeat(scale, 1)
    for c in range(3):
        for dy in range(scale):
            for dx in range(scale):
                expected[dy::scale, dx::scale, c] += y[..., c * scale**2 + dy * scale + dx]
    np.testing.assert_allclose(np.asarray(net(x))[0], expected, atol=2e-5)


def test_pixel_unshuffle():
    x = image(2, 6, 4, 3)
    packed = pixel_unshuffle(x, 2)
    np.testing.assert_array_equal(packed[1], unshuffle(x[1], 2))


def test_nearest_upsample_repeats_pixels():
    x = image(2, 3, 2, 5)
    np.testing.assert_array_equal(nearest_upsample(x, 3), x.repeat(3, 1).repeat(3, 2))


def test_unknown_factors_and_odd_sides_are_refused():
    with pytest.raises(ValueError, match="scale must be 1, 2 or 4"):
        RRDBNet(1, 3, rngs=nnx.Rngs(0))
    net = random_network(lambda rngs: RRDBNet(1, 2, features=4, growth=4, rngs=rngs))
    with pytest.raises(ValueError, match="multiples of 2"):
        net(image(1, 5, 4, 3))
