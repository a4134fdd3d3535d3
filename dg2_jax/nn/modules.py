"""Flax's modules taken apart into structure and parameters, and built without numbers."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.network import Bound, Network, Params, Slot
from dg2_jax.nn.precision import with_compute_dtype

_LAYERS = (nnx.Linear, nnx.Conv, nnx.LayerNorm, nnx.GroupNorm, nnx.BatchNorm, nnx.Embed)


def built(build: Callable[..., nnx.Module], compute_dtype: str) -> nnx.Module:
    """The module `build(rngs=...)`, with shapes in place of parameters."""
    return with_compute_dtype(abstract(lambda rngs: build(rngs=rngs)), compute_dtype)


def merge(graphdef: nnx.GraphDef, params: Params) -> Any:
    """A module of a structure and its parameters."""
    return nnx.merge(graphdef, params)


def bound(module: Any) -> Bound:
    """A module that has its configuration as `config`, taken apart."""
    return Bound(*split(module), module.config)


def split(module: nnx.Module) -> tuple[Network, Params]:
    """A network's structure and its parameters, or their shapes if it is abstract."""
    graphdef, state = nnx.split(module)
    return Network(graphdef), nnx.to_pure_dict(state)


def slots_of(module: nnx.Module) -> list[Slot]:
    """The places of the parameters of a module."""
    layers = {path: _layer(owner) for path, owner in nnx.iter_modules(module)}
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    slots = []
    for keys, leaf in leaves:
        path = tuple(key.key for key in keys)
        slots.append(Slot(path, leaf.shape, str(leaf.dtype), layers.get(path[:-1], "")))
    return slots


def parameters_of(module: nnx.Module) -> dict[tuple, nnx.Param]:
    """The parameters that the layers of a module hold, by their paths."""
    return {
        (*path, name): value
        for path, owner in nnx.iter_modules(module)
        for name, value in vars(owner).items()
        if isinstance(value, nnx.Param)
    }


def _layer(module: Any) -> str:
    if isinstance(module, nnx.ConvTranspose) and not module.transpose_kernel:
        return "ConvTranspose"
    return next((kind.__name__ for kind in _LAYERS if isinstance(module, kind)), "")
