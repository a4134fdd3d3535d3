"""The precision in which a network computes."""

from typing import Any, TypeVar

import jax.numpy as jnp

M = TypeVar("M")

REMAT_POLICIES = ("everything", "cheap")


def with_compute_dtype(module: M, dtype: Any) -> M:
    """Makes every layer of a module compute in `dtype`; parameters keep theirs.

    Layers cast their inputs and weights to it. The statistics of Flax's normalisations and the
    softmax of `dot_product_attention` are computed in float32 in any case.

    Args:
        module: changed in place and returned; may be abstract.
        dtype: float32 leaves the module unchanged, so that it follows its inputs.
    """
    if jnp.dtype(dtype) != jnp.float32:
        from flax import nnx  # late: configurations use this file, and need no Flax

        whole: Any = module
        layers: list[Any] = [layer for _, layer in nnx.iter_modules(whole)]
        for layer in layers:
            if hasattr(layer, "param_dtype"):
                layer.dtype = jnp.dtype(dtype)
    return module


def remat_policy(name: str) -> Any:
    """What a rematerialised block keeps for the backward pass, for `jax.checkpoint`.

    "everything" recomputes all but the block's inputs; "cheap" keeps the results of convolutions
    and of products with weights, so that only norms, activations and attention run twice.

    Raises:
        ValueError: another name.
    """
    if name not in REMAT_POLICIES:
        raise ValueError(f"remat_policy must be one of {REMAT_POLICIES}, got {name!r}")
    return None if name == "everything" else _keep_products


def _keep_products(primitive: Any, *_: Any, **params: Any) -> bool:
    if primitive.name == "dot_general":
        return not any(params["dimension_numbers"][1])  # no batch axes: not attention's
    return primitive.name == "conv_general_dilated"
