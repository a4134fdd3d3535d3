"""Random numbers that depend on their seed alone, not on JAX's global flags.

`jax_default_prng_impl` changes what a seed stands for, `jax_threefry_partitionable` what a key
yields, and `jax_enable_x64` the dtype that is drawn, and with it the numbers. So a key names its
implementation here, what is drawn is float32, and the flag of Threefry is set while it is drawn.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def steady(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """`function` with keys that yield the same numbers whatever `jax_threefry_partitionable` is.

    For what is traced too: a traced operation keeps the flag it was traced with.
    """

    @functools.wraps(function)
    def drawn(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with jax.threefry_partitionable(True):
            return function(*args, **kwargs)

    return drawn


def key(seed: int | Integer[Array, ""]) -> PRNGKeyArray:
    """The key of a seed, at least 0: Threefry-2x32 (Salmon et al., SC 2011)."""
    return jax.random.key(seed, impl="threefry2x32")


@steady
def normal(
    key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Float[Array, "*shape"]:
    """Standard normal."""
    return jax.random.normal(key, shape, dtype)


@steady
def uniform(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    """Uniform in [0, 1), float32."""
    return jax.random.uniform(key, shape, jnp.float32)


@steady
def bernoulli(key: PRNGKeyArray, p: float, shape: tuple[int, ...]) -> Bool[Array, "*shape"]:
    """True with probability `p`."""
    return jax.random.bernoulli(key, jnp.float32(p), shape)
