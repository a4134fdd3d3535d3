"""A text network as one compiled function that can be copied and pickled."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from dg2_jax.nn.bert import Bert, l2_normalize, mean_pool
from dg2_jax.nn.clip import ClipText


@dataclasses.dataclass(frozen=True)
class Forward:
    """A text network compiled as `TextEncoder.forward`; it can be pickled.

    Attributes:
        graphdef: of the network.
        output: from the network, ids (b, l) and mask (b, l) to context and pooled.
    """

    graphdef: nnx.GraphDef
    output: Callable[[Any, Array, Array], tuple[Array, Array]]

    def __call__(self, params: Any, ids: Array, mask: Array) -> tuple[Array, Array]:
        """See `TextEncoder.forward`."""
        return _forward(self, params, ids, mask)

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.graphdef, self.output))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple:
        return Forward, (self.graphdef, self.output)  # the hash is of this process alone


@functools.partial(jax.jit, static_argnums=0)
def _forward(forward: Forward, params: Any, ids: Array, mask: Array) -> tuple[Array, Array]:
    return forward.output(nnx.merge(forward.graphdef, params), ids, mask)


def bert_output(network: Bert, ids: Array, mask: Array) -> tuple[Array, Array]:
    """The last hidden state, zeros at padding, and its mean over the tokens, normalised."""
    hidden = network(ids, mask)
    return jnp.where(mask[:, :, None], hidden, 0.0), mean_pool(hidden, mask)


def clip_output(network: ClipText, ids: Array, mask: Array) -> tuple[Array, Array]:
    """The last hidden state, and the projection, normalised, of a tower that has one."""
    out = network(ids, mask)
    vector = out.pooled if out.projected is None else out.projected
    return out.last_hidden_state, l2_normalize(vector)
