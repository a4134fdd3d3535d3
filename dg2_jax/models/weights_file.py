"""Weights files: safetensors, whose names are the dotted paths of a pytree's leaves."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import safetensors.flax
import safetensors.numpy
from safetensors import SafetensorError

from dg2_jax.files import replacing
from dg2_jax.interop import file_kinds


class WeightsError(ValueError):
    """A weights file or checkpoint that cannot be used; the message names the file and why."""


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by dotted names, such as `down.0.conv.kernel`.

    Raises:
        ValueError: two leaves have the same name.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    flat = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    if len(flat) != len(leaves):
        raise ValueError("tree must have distinct dotted names for its leaves")
    return flat


def unflatten(flat: dict[str, Any], like: Any) -> Any:
    """The inverse of `flatten`: a tree of the structure of `like`."""
    return jax.tree.unflatten(jax.tree.structure(like), [flat[name] for name in flatten(like)])


def compare(what: str, saved: dict[str, tuple[int, ...]], like: Any) -> None:
    """Raises WeightsError listing how names and shapes differ from those of `like`."""
    needed = {name: tuple(leaf.shape) for name, leaf in flatten(like).items()}
    problems = []
    for title, names in (
        ("missing", sorted(set(needed) - set(saved))),
        ("unexpected", sorted(set(saved) - set(needed))),
        (
            "of another shape",
            [
                f"{name} (has {saved[name]}, needs {needed[name]})"
                for name in sorted(set(needed) & set(saved))
                if saved[name] != needed[name]
            ],
        ),
    ):
        if names:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            problems.append(f"{title}: {', '.join(names[:8])}{more}")
    if problems:
        raise WeightsError(f"{what} does not fit the model; {'; '.join(problems)}")


def save(path: str | Path, params: Any, dtype: Any = jnp.float32) -> None:
    """Writes weights as safetensors with flat dotted names, atomically.

    Args:
        path: the file.
        params: a pytree of arrays.
        dtype: what they are stored as, e.g. `jnp.bfloat16` for half the size; None as they are.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = {name: jnp.asarray(leaf, dtype) for name, leaf in flatten(params).items()}
    with replacing(path) as partial:
        safetensors.flax.save_file(flat, str(partial))


def load(path: str | Path, like: Any, *, keep_dtype: bool = False) -> Any:
    """Reads weights that `save` wrote.

    Args:
        path: the file.
        like: the params, or their shapes (`jax.eval_shape`); gives structure and dtypes.
        keep_dtype: whether dtypes stay those of the file.

    Returns:
        A tree like `like`.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: it is not a good safetensors file, or its names or shapes do not fit; the
            message lists them.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    try:
        flat = safetensors.numpy.load_file(str(path))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        file_kinds.refuse_other(path, "safetensors", WeightsError)
        raise WeightsError(f"{path} is not a good safetensors file: {error}") from error
    compare(str(path), {name: tuple(leaf.shape) for name, leaf in flat.items()}, like)
    # Converted by NumPy, and put as they are: jnp.asarray compiles a program for every shape.
    typed = {
        name: flat[name] if keep_dtype else flat[name].astype(leaf.dtype)
        for name, leaf in flatten(like).items()
    }
    return unflatten(jax.device_put(typed), like)
