"""3x3 convolution: the CPU's products against XLA's convolution, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax.nn import convolution


def plain(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


# few pixels and a wide kernel: by products forward too; then each choice of the gradients
CASES = {
    "products": (1, 4, 3, 512, 512),
    "narrow input": (2, 5, 8, 3, 7),
    "narrow gradient": (2, 8, 5, 7, 3),
    "one pixel": (1, 1, 1, 4, 4),
}


@pytest.mark.parametrize("most", [6_000_000, 0])
@pytest.mark.parametrize("shape", CASES.values(), ids=CASES.keys())
def test_values_and_gradients_are_those_of_the_convolution(shape, most, monkeypatch):
    monkeypatch.setattr(convolution, "_MOST_COLUMNS", most)
    b, h, w, i, o = shape
    rng = np.random.default_rng(0)
    x, kernel, gradient = (
        jnp.asarray(rng.normal(size=size), jnp.float32)
        for size in ((b, h, w, i), (3, 3, i, o), (b, h, w, o))
    )
    expected, expected_vjp = jax.vjp(plain, x, kernel)
    actual, found_vjp = jax.vjp(convolution.convolve_on_cpu, x, kernel)
    pairs = zip((actual, *found_vjp(gradient)), (expected, *expected_vjp(gradient)), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=2e-6 * float(jnp.abs(b).max()) * i**0.5)


@pytest.mark.parametrize(
    "settings",
    [
        {"strides": (2, 2)},
        {"strides": (2, 2), "padding": ((1, 1), (1, 1))},
        {"padding": "VALID"},
        {"kernel_dilation": (2, 2)},
        {"feature_group_count": 2},
        {"padding": ((1, 1), (1, 1))},
    ],
)
def test_every_convolution_of_the_layer_is_as_before(settings):
    layers = [
        nnx.Conv(4, 6, (3, 3), rngs=nnx.Rngs(0), **settings, **path)
        for path in ({}, {"conv_general_dilated": convolution.convolve})
    ]
    x = jax.random.normal(jax.random.key(1), (2, 7, 8, 4))
    np.testing.assert_allclose(layers[1](x), layers[0](x), atol=1e-5)


def test_only_the_cpu_takes_its_own_path():
    def lowered(platform):
        x, kernel = jnp.zeros((1, 4, 4, 512)), jnp.zeros((3, 3, 512, 512))
        run = jax.jit(
            lambda x, k: convolution.convolve(
                x, k, (1, 1), "SAME", dimension_numbers=convolution._DIMENSIONS
            )
        )
        return jax.export.export(run, platforms=[platform])(x, kernel).mlir_module()

    assert "stablehlo.convolution" not in lowered("cpu")
    for platform in ("cuda", "tpu"):
        assert "stablehlo.convolution" in lowered(platform)


def test_doubling_is_the_transposed_convolution():
    layer = convolution.Doubling(5, 7, nnx.Rngs(0))
    layer.bias[...] = jnp.arange(7.0)
    other = nnx.ConvTranspose(5, 7, (2, 2), (2, 2), padding="VALID", rngs=nnx.Rngs(1))
    nnx.update(other, nnx.state(layer))
    x = jax.random.normal(jax.random.key(1), (2, 3, 4, 5))
    np.testing.assert_allclose(layer(x), other(x), atol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 2)])
def test_halving_is_the_convolution_of_stride_2(size, monkeypatch):
    monkeypatch.setattr(convolution, "_WIDE_KERNEL", 0)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *size, 5)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 5, 7)), jnp.float32)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(convolution.halve_on_cpu(x, kernel), expected, atol=1e-4)
