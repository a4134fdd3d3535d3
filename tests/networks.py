"""Networks with random weights from NumPy: JAX would compile a generator for each shape."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dg2_jax.nn.abstract import abstract


def random_params(make, seed=0):
    """Weights for `make(rngs)`, every one random, so that nothing is a no-op.

    Kernels are N(0, 1/inputs); gains are around 1, everything else around 0.
    """
    return _fill(nnx.to_pure_dict(nnx.split(abstract(make))[1]), seed)


def random_network(make, seed=0):
    """`make(rngs)` with `random_params`."""
    graphdef, shapes = nnx.split(abstract(make))
    return nnx.merge(graphdef, _fill(nnx.to_pure_dict(shapes), seed))


def _fill(shapes, seed):
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        noise = rng.normal(size=leaf.shape)
        name = path[-1].key
        if name == "kernel":
            noise /= np.sqrt(np.prod(leaf.shape[:-1]))
        else:
            noise = 0.1 * noise + (name == "scale")
        return jnp.asarray(noise, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)
