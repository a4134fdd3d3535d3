"""Denoisers whose kernels are kept in fewer bits and expanded for every evaluation.

Model files hold bfloat16, so bfloat16 halves the memory of the weights without loss; int8 and
float8 have one scale per output channel (by qwix) and take a quarter. Arithmetic stays in float32.
docs/performance.md has measurements.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import qwix
from flax import nnx

from dg2_jax.checks import check
from dg2_jax.models.model import DTYPES, Model, Network, Params


def quantized(model: Model, dtype: str) -> Model:
    """A model with each set of its denoiser's weights in another dtype.

    Args:
        model: the model, which is not changed.
        dtype: one of `DTYPES`.

    Raises:
        ValueError: there is no such dtype, or the model is quantized already.
    """
    check(dtype in DTYPES, "dtype", f"one of {', '.join(DTYPES)}", dtype)
    if model.denoiser.is_quantized:
        raise ValueError(f"model {model.name} is quantized already")
    return dataclasses.replace(
        model,
        name=f"{model.name}:{dtype}",
        denoiser=QuantizedNetwork(model.denoiser.structure),
        params=model.params.mapped(lambda params: quantize(params, dtype)),
    )


def quantize(params: Params, dtype: str) -> Params:
    """The parameters with every kernel in another dtype; `expand` undoes it up to rounding.

    Args:
        params: of a network.
        dtype: one of `DTYPES`.
    """

    @jax.jit
    def smaller(kernel: jax.Array) -> Any:
        if dtype == "bfloat16":
            return kernel.astype(jnp.bfloat16)
        return qwix.quantize(kernel, dtype, channelwise_axes=(kernel.ndim - 1,))

    def leaf(path: Any, value: jax.Array) -> Any:
        return smaller(value) if path[-1].key == "kernel" else value

    return jax.tree_util.tree_map_with_path(leaf, params)


def expand(params: Params) -> Params:
    """The parameters in float32 again."""

    def leaf(value: Any) -> jax.Array:
        if isinstance(value, qwix.QArray):
            return qwix.dequantize(value)
        return value.astype(jnp.float32)

    return jax.tree.map(leaf, params, is_leaf=lambda value: isinstance(value, qwix.QArray))


class QuantizedNetwork(Network):
    """A network with parameters from `quantize`."""

    is_quantized = True

    def bind(self, params: Params) -> Any:
        """The network with its parameters, which are expanded in each call of a method."""
        return _Expanding(super().bind, params)


class _Expanding:
    """A bound network that holds its parameters in quantized form.

    It has every method of the network; each call of one expands the parameters.
    """

    def __init__(self, bind: Callable[[Params], nnx.Module], params: Params):
        self._bind, self._params = bind, params

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Evaluates the network."""
        return self._run("__call__", *args, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return functools.partial(self._run, name)

    def _run(self, name: str, *args: Any, **options: Any) -> Any:
        params = self._params
        if args and isinstance(args[0], jax.Array):
            # Tied to the argument: otherwise XLA would hoist the expansion out of the loop.
            params, first = jax.lax.optimization_barrier((params, args[0]))
            args = first, *args[1:]
        return getattr(self._bind(expand(params)), name)(*args, **options)
