"""The cost of traced programs that can be counted by hand."""

import jax
import jax.numpy as jnp

from dg2_jax.scripts.jaxpr_cost import cost

A = jax.ShapeDtypeStruct((8, 16), jnp.float32)
B = jax.ShapeDtypeStruct((16, 32), jnp.float32)


def test_products_convolutions_and_loops():
    assert cost(lambda a, b: a @ b, A, B) == (2 * 8 * 16 * 32, 4 * 8 * 32)
    x = jax.ShapeDtypeStruct((1, 10, 10, 3), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 5), jnp.float32)

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    assert cost(convolve, x, kernel).flop == 2 * 100 * 27 * 5
    square = jax.ShapeDtypeStruct((16, 16), jnp.float32)

    def repeated(a):
        return jax.lax.scan(lambda a, _: (a @ a, None), a, None, length=7)[0]

    assert cost(repeated, square).flop == 7 * 2 * 16**3


def test_memory_is_that_of_what_is_still_needed():
    def chain(a):  # each value is needed for the next alone
        for _ in range(5):
            a = jnp.sin(a)
        return a

    size = 4 * 8 * 16
    assert cost(chain, A).peak == 2 * size
    assert cost(lambda a: jnp.sin(a) + jnp.cos(a) + jnp.tan(a), A).peak == 3 * size
    assert cost(jax.jit(chain), A).peak == 2 * size


def test_of_several_platforms_the_one_for_all_others_counts():
    def either(a, b):
        return jax.lax.platform_dependent(
            a, b, cpu=lambda a, b: (a @ b) @ b.T @ b, default=lambda a, b: a @ b
        )

    assert cost(either, A, B).flop == 2 * 8 * 16 * 32
