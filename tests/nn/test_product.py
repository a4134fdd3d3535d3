"""Products of few rows with a large kernel: the CPU's parts against one product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.nn.layers import Linear
from dg2_jax.nn.product import dot_general
from tests.networks import random_network


def drawn(*sizes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=size), jnp.float32) for size in sizes]


def loops(function, *args, platform="cpu"):
    exported = jax.export.export(jax.jit(function), platforms=[platform])(*args)
    return exported.mlir_module().count("stablehlo.while")


# The last has an odd number of rows of the kernel: it cannot be parted.
@pytest.mark.parametrize(("rows", "k", "m"), [(8, 1024, 1024), (63, 2304, 512), (9, 1025, 1024)])
def test_values_and_gradients_are_those_of_one_product(rows, k, m):
    x, kernel, gradient = drawn((rows, k), (k, m), (rows, m))
    actual, vjp = jax.vjp(dot_general, x, kernel)
    pairs = [(actual, x @ kernel)]
    pairs += zip(vjp(gradient), (gradient @ kernel.T, x.T @ gradient), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=2e-6 * float(jnp.abs(b).max()) * k**0.5)


def test_parts_are_taken_where_they_are_quicker_and_on_cpu_only():
    (kernel,) = drawn((1024, 1024))
    for rows, expected in ((7, 0), (8, 1), (63, 1), (64, 0)):
        assert loops(dot_general, jnp.zeros((rows, 1024)), kernel) == expected
    assert loops(dot_general, jnp.zeros((8, 1024)), kernel[:, :512]) == 0
    assert loops(dot_general, jnp.zeros((8, 1024), jnp.bfloat16), kernel.astype(jnp.bfloat16)) == 0
    for platform in ("cuda", "tpu"):
        assert loops(dot_general, jnp.zeros((8, 1024)), kernel, platform=platform) == 0


def test_a_layer_takes_them():
    x = jnp.zeros((2, 4, 1024))
    assert loops(random_network(lambda rngs: Linear(1024, 1024, rngs=rngs)), x) == 1
