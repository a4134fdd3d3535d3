"""A network's structure without its numbers: what weights from a file are put into."""

from collections.abc import Callable
from typing import TypeVar

import jax
from flax import nnx

_Module = TypeVar("_Module", bound=nnx.Module)


class _OneKey(nnx.Rngs):
    """Gives the same key for every parameter: where no number is drawn, none need differ.

    Tracing a stream's counter takes longer than all else that building a network does.
    """

    def __init__(self) -> None:
        super().__init__()

    def params(self) -> jax.Array:
        """The key."""
        return jax.random.key(0)


def abstract(make: Callable[[nnx.Rngs], _Module]) -> _Module:
    """The module that `make` builds, with a `jax.ShapeDtypeStruct` in place of every array."""
    return nnx.eval_shape(lambda: make(_OneKey()))
