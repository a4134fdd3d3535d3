"""Filling modules from PyTorch-style dictionaries: layouts and complaints."""

import numpy as np
import pytest
from flax import nnx

from dg2_jax.interop.weights import load_params


class Small(nnx.Module):
    def __init__(self, *, rngs):
        self.blocks = nnx.List([nnx.Linear(2, 3, rngs=rngs)])
        self.norm = nnx.LayerNorm(3, epsilon=1e-5, rngs=rngs)
        self.table = nnx.Embed(4, 3, rngs=rngs)
        self.scale = nnx.Param(np.ones(()))


def tensors():
    rng = np.random.default_rng(0)
    shapes = {
        "blocks.0.weight": (3, 2),
        "blocks.0.bias": (3,),
        "norm.weight": (3,),
        "norm.bias": (3,),
        "table.weight": (4, 3),
        "scale": (),
    }
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("abstract", [False, True])
def test_every_parameter_is_filled(abstract):
    module = (
        Small(rngs=nnx.Rngs(0)) if not abstract else nnx.eval_shape(lambda: Small(rngs=nnx.Rngs(0)))
    )
    given = tensors()
    load_params(module, {f"model.{k}": v for k, v in given.items()}, lambda k: k[len("model.") :])
    x = np.ones((1, 2), np.float32)
    expected = x @ given["blocks.0.weight"].T + given["blocks.0.bias"]
    np.testing.assert_allclose(module.blocks[0](x), expected, rtol=1e-5)
    np.testing.assert_allclose(module.norm.scale[...], given["norm.weight"], rtol=1e-6)
    np.testing.assert_allclose(module.table(np.array([2])), given["table.weight"][2:3], rtol=1e-6)
    assert all(p.dtype == np.float32 for _, p in nnx.to_flat_state(nnx.state(module)))


def test_conv_follows_the_definition():
    w = np.random.default_rng(0).normal(size=(3, 2, 3, 3))  # O I H W
    conv = nnx.Conv(2, 3, (3, 3), padding="VALID", use_bias=False, rngs=nnx.Rngs(0))
    load_params(conv, {"weight": w})
    patch = np.random.default_rng(1).normal(size=(1, 3, 3, 2)).astype(np.float32)
    np.testing.assert_allclose(
        conv(patch)[0, 0, 0], np.einsum("oihw,hwi->o", w, patch[0]), rtol=1e-4
    )


@pytest.mark.parametrize("size", [2, 3])
def test_transposed_conv_scatters_its_kernel(size):
    """PyTorch's definition: input pixel (y, x) adds w[i, o] to the outputs from (2y, 2x) on."""
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(2, 3, size, size)), rng.normal(size=(1, 4, 5, 2))
    expected = np.zeros((8 + size - 2, 10 + size - 2, 3))
    for row in range(4):
        for col in range(5):
            stamp = np.einsum("i,iohw->hwo", x[0, row, col], w)
            expected[2 * row : 2 * row + size, 2 * col : 2 * col + size] += stamp
    conv = nnx.ConvTranspose(
        2, 3, (size, size), strides=(2, 2), padding="VALID", use_bias=False, rngs=nnx.Rngs(0)
    )
    load_params(conv, {"weight": w})
    np.testing.assert_allclose(conv(x.astype(np.float32))[0], expected, atol=1e-5)


def test_complaints_name_the_tensors():
    module = Small(rngs=nnx.Rngs(0))
    given = tensors()
    with pytest.raises(ValueError, match=r"no parameter for extra; no tensor for norm.bias"):
        load_params(module, {k: v for k, v in given.items() if k != "norm.bias"} | {"extra": 0})
    with pytest.raises(ValueError, match=r"wrong shapes for Small: norm.bias \(4,\)"):
        load_params(module, given | {"norm.bias": np.ones(4)})
    with pytest.raises(ValueError, match="both name the parameter scale"):
        load_params(module, given | {"old": 1.0}, lambda k: "scale" if k == "old" else k)
    load_params(module, given | {"buffer": 0}, lambda k: None if k == "buffer" else k)
