"""A network's structure without numbers, to be filled with weights from a file."""

from collections.abc import Callable
from typing import TypeVar

import jax
from flax import nnx

_Module = TypeVar("_Module", bound=nnx.Module)


class _OneKey(nnx.Rngs):
    """Gives the same key for every parameter, since no numbers are drawn.

    Tracing the counter of a stream takes longer than everything else in building a network.
    """

    def __init__(self) -> None:
        super().__init__()

    def params(self) -> jax.Array:
        """The key."""
        return jax.random.key(0)


def abstract(make: Callable[[nnx.Rngs], _Module]) -> _Module:
    """The module that `make` builds, with a `jax.ShapeDtypeStruct` in place of every array."""
    return nnx.eval_shape(lambda: make(_OneKey()))
