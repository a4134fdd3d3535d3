"""Samplers as files: traced and lowered ahead of time, for any platform, and read back.

Reading needs neither the network's code nor the time to trace it; the machine that runs a sampler
compiles it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export

from dg2_jax.checks import check

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def serialize(function: Callable, *args: Any, platforms: Sequence[str] = ("cpu",)) -> bytes:
    """The program of `function(*args)`, without weights: they are among the arguments.

    Args:
        function: pure, such as `Pipeline.sampler`'s.
        args: example arguments; only their shapes and dtypes matter.
        platforms: some of `PLATFORMS`; this machine need not have them.

    Returns:
        StableHLO as `jax.export` serialises it; later releases of JAX read it for six months.

    Raises:
        ValueError: a platform is none of `PLATFORMS`, or there is none.
    """
    known = bool(platforms) and {*platforms} <= {*PLATFORMS}
    check(known, "platforms", f"some of {', '.join(PLATFORMS)}", platforms)
    leaves, tree = jax.tree.flatten(args)
    # Only leaves, since the serialised form cannot hold trees with integer keys.
    flat = jax.jit(lambda leaves: function(*jax.tree.unflatten(tree, leaves)))
    return bytes(jax.export.export(flat, platforms=platforms)(leaves).serialize())


def deserialize(data: bytes) -> Callable:
    """The serialised function, jitted, for arguments of the same shapes.

    Raises:
        ValueError: the data are incomplete or not from `serialize`; or, when the function is
            called, the arguments have other shapes or dtypes, or the platform is not one it was
            lowered for.
    """
    try:
        program = jax.export.deserialize(bytearray(data))
    except Exception as error:  # struct.error and others, depending on the damage
        raise ValueError(
            f"data must be whole and of exported.serialize; these {len(data)} bytes are not"
        ) from error
    return jax.jit(lambda *args: program.call(jax.tree.leaves(args)))
