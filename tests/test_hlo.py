"""The arithmetic of a compiled program, read from its text, against what was asked for."""

import jax
import jax.numpy as jnp
import pytest

from dg2_jax.scripts import hlo


def gflop(function, *shapes):
    compiled = jax.jit(function).lower(*map(jnp.zeros, shapes)).compile()
    return hlo.read(compiled.as_text())[1]


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_products_and_convolutions_count_each_multiplication_and_addition():
    assert gflop(jnp.matmul, (300, 400), (400, 500)) == pytest.approx(2e-9 * 300 * 400 * 500)
    heads = gflop(lambda q, k: jnp.einsum("bqhd,bkhd->bhqk", q, k), (2, 64, 3, 8), (2, 32, 3, 8))
    assert heads == pytest.approx(2e-9 * 2 * 3 * 64 * 32 * 8)
    actual = gflop(convolve, (2, 16, 16, 24), (3, 3, 24, 40))
    assert actual == pytest.approx(2e-9 * 2 * 16 * 16 * 9 * 24 * 40)


def test_a_loop_counts_as_often_as_it_runs():
    def powers(x):
        return jax.lax.fori_loop(0, 7, lambda _, y: jnp.tanh(y @ x), x)

    assert gflop(powers, (256, 256)) == pytest.approx(7 * 2e-9 * 256**3)


def test_what_is_fused_is_its_fusions():
    compiled = jax.jit(lambda a: jnp.max(a @ a, axis=1)).lower(jnp.zeros((512, 512))).compile()
    operations, total = hlo.read(compiled.as_text())
    assert total == pytest.approx(2e-9 * 512**3)
    actual = [operation.gflop for operation in operations.values() if operation.gflop]
    assert actual
    assert actual == pytest.approx([total] * len(actual))
