"""Networks with random weights from NumPy: JAX would compile a generator for each shape."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def random_params(make, seed=0):
    """Weights for `make()`, every one random, so that nothing is a no-op.

    Kernels are N(0, 1/inputs); gains are around 1, everything else around 0.
    """
    shapes = nnx.to_pure_dict(nnx.split(nnx.eval_shape(make))[1])
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


def random_network(make, seed=0):
    """`make()` with `random_params`."""
    return nnx.merge(nnx.split(nnx.eval_shape(make))[0], random_params(make, seed))
