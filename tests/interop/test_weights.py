"""Filling modules from PyTorch-style dictionaries: layouts and complaints."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from dg2_jax.interop.safetensors_reader import read_safetensors
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


@pytest.mark.parametrize(
    ("stored", "asked", "kept"),
    [
        (np.float16, None, np.float16),
        (ml_dtypes.bfloat16, None, ml_dtypes.bfloat16),
        (ml_dtypes.float8_e4m3fn, None, ml_dtypes.bfloat16),
        (np.float16, np.float32, np.float32),
        (np.float32, ml_dtypes.bfloat16, ml_dtypes.bfloat16),
    ],
)
def test_parameters_have_the_dtype_that_is_stored_or_asked_for(stored, asked, kept):
    linear = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    given = {"weight": np.ones((3, 2)).astype(stored), "bias": np.zeros(3).astype(stored)}
    sizes = []
    load_params(linear, given, dtype=asked, on_bytes=sizes.append)
    assert linear.kernel[...].dtype == linear.bias[...].dtype == kept
    assert sum(sizes) == sum(array.nbytes for array in given.values())


def test_a_mapped_file_is_given_back_as_it_is_read(tmp_path):
    count, width = 12, 2048  # tensors of 16 MiB
    tensors = {f"{i}.weight": np.zeros((width, width), np.float32) for i in range(count)}
    save_file(tensors, tmp_path / "model.safetensors")
    module = nnx.eval_shape(
        lambda: nnx.List(
            nnx.Linear(width, width, use_bias=False, rngs=nnx.Rngs(0)) for _ in range(count)
        )
    )
    mapped = read_safetensors(tmp_path / "model.safetensors")
    seen = []
    load_params(module, mapped, on_bytes=lambda _: seen.append(_mapped_memory()))
    assert max(seen) - seen[0] < 100 << 20  # of 192 MiB
    np.testing.assert_array_equal(mapped["0.weight"], tensors["0.weight"])


def _mapped_memory():
    """Bytes of files that lie in this process's memory."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("needs /proc")
    line = next(line for line in status.read_text().splitlines() if line.startswith("RssFile"))
    return 1024 * int(line.split()[1])
