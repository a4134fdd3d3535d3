"""Samplers compiled ahead of time: one written to bytes, for any platform, and read back.

Reading takes neither the network's code nor the time of tracing it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export


def serialize(function: Callable, *args: Any, platforms: Sequence[str] = ("cpu",)) -> bytes:
    """The program of `function(*args)`, without weights: they are among the arguments.

    Args:
        function: pure, such as `Pipeline.sampler`'s.
        args: arguments as it will be called with; their shapes and dtypes count alone.
        platforms: any of "cpu", "cuda", "rocm" and "tpu"; this machine needs none of them.

    Returns:
        StableHLO as `jax.export` serialises it; later releases of JAX read it for six months.

    Raises:
        ValueError: a platform is none that JAX knows.
    """
    leaves, tree = jax.tree.flatten(args)
    if unknown := sorted({*platforms} - {"cpu", "cuda", "rocm", "tpu"}):
        raise ValueError(f"platforms must be of cpu, cuda, rocm, tpu; got {', '.join(unknown)}")
    # Leaves alone, since the serialised form knows no trees with whole numbers for keys.
    flat = jax.jit(lambda leaves: function(*jax.tree.unflatten(tree, leaves)))
    return bytes(jax.export.export(flat, platforms=platforms)(leaves).serialize())


def deserialize(data: bytes) -> Callable:
    """The function that `serialize` was given, jitted, for arguments of the same shapes.

    Raises:
        ValueError: when called with arguments of other shapes or dtypes, or on a platform that it
            was not written for.
    """
    program = jax.export.deserialize(bytearray(data))
    return jax.jit(lambda *args: program.call(jax.tree.leaves(args)))
