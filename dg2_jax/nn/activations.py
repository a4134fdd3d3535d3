"""The activations of text and vision encoders, and what their layers support."""

from collections.abc import Callable
from functools import partial

import jax
from jaxtyping import Array

# Names as in Hugging Face configurations (`hidden_act`).
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
}


def check_architecture(name: str, hidden_size: int, heads: int, hidden_act: str) -> None:
    """Raises ValueError if a configuration asks for something these layers do not support."""
    if heads < 1 or hidden_size < 1 or hidden_size % heads:
        raise ValueError(f"{name}: hidden_size {hidden_size} is not a multiple of {heads} heads")
    if hidden_act not in ACTIVATIONS:
        raise ValueError(f"{name}: hidden_act {hidden_act!r} is none of {sorted(ACTIVATIONS)}")
