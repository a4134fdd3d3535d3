"""A text network as one compiled function that can be copied and pickled."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dg2_jax import program_cache
from dg2_jax.nn.network import Network
from dg2_jax.nn.pooling import l2_normalize, mean_pool


@dataclasses.dataclass(frozen=True)
class Forward:
    """A text network compiled as `TextEncoder.forward`; it can be pickled.

    Attributes:
        network: the structure.
        output: from the network, ids (b, l) and mask (b, l) to context and pooled.
    """

    network: Network
    output: Callable[[Any, Array, Array], tuple[Array, Array]]

    def __call__(self, params: Any, ids: Array, mask: Array) -> tuple[Array, Array]:
        """See `TextEncoder.forward`."""
        return _forward(self, params, ids, mask)

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.network, self.output))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple:
        return Forward, (self.network, self.output)  # the hash is of this process alone


@functools.partial(jax.jit, static_argnums=0)
@program_cache.kept
def _forward(forward: Forward, params: Any, ids: Array, mask: Array) -> tuple[Array, Array]:
    return forward.output(forward.network.bind(params), ids, mask)


def bert_output(network: Any, ids: Array, mask: Array) -> tuple[Array, Array]:
    """The last hidden state, zeros at padding, and its mean over the tokens, normalised."""
    hidden = network(ids, mask)
    return jnp.where(mask[:, :, None], hidden, 0.0), mean_pool(hidden, mask)


def clip_output(network: Any, ids: Array, mask: Array) -> tuple[Array, Array]:
    """The last hidden state, and the projection, normalised, of a tower that has one."""
    out = network(ids, mask)
    vector = out.pooled if out.projected is None else out.projected
    return out.last_hidden_state, l2_normalize(vector)
