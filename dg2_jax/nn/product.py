"""Matrix products of few rows with a large kernel, as at a UNet's deepest level for one picture.

XLA's CPU back end repacks a kernel for its product from 64 rows on. With fewer it reads the kernel
in place, which takes three times as long as the arithmetic if the kernel is larger than the cache.
Going part by part, each within the cache, takes two thirds of that.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Measured, see docs/performance.md.
_ROWS = range(8, 64)
_LARGE_KERNEL = 1024 * 1024
_PART = 512 * 1024  # entries of the kernel


_MATRICES = (((1,), (0,)), ((), ()))


def dot_general(
    x: Float[Array, "n k"],
    kernel: Float[Array, "k m"],
    dimension_numbers: Any = _MATRICES,
    **settings: Any,
) -> Float[Array, "n m"]:
    """The product by the best path of each platform, for `nnx.Linear(dot_general=dot_general)`.

    Args:
        x: one token per row.
        kernel: of the layer.
        dimension_numbers: those of a product of two matrices.
        settings: as of `jax.lax.dot_general`.
    """

    def plain(x: Array, kernel: Array) -> Array:
        return jax.lax.dot_general(x, kernel, dimension_numbers, **settings)

    few = len(x) in _ROWS and kernel.size >= _LARGE_KERNEL
    if few and x.dtype == kernel.dtype == jnp.float32 and not any(settings.values()):
        return jax.lax.platform_dependent(x, kernel, cpu=_by_parts, default=plain)
    return plain(x, kernel)


def _by_parts(x: Array, kernel: Array) -> Array:
    (n, k), m = x.shape, kernel.shape[1]
    parts = math.gcd(k, 2 ** round(math.log2(kernel.size / _PART)))
    columns = jnp.swapaxes(x.reshape(n, parts, k // parts), 0, 1)

    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        return total + part[0] @ part[1], None

    empty = jnp.zeros((n, m), x.dtype)
    return jax.lax.scan(add, empty, (columns, kernel.reshape(parts, k // parts, m)))[0]
