"""Weights in fewer bits: the rounding has its bound, the pictures hardly change, memory shrinks."""

import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.generation import program
from dg2_jax.models.model import DTYPES
from dg2_jax.models.quantization import expand, quantize
from dg2_jax.pipeline import Pipeline
from dg2_jax.serve.server_settings import ServerSettings

STEPS = 3


@pytest.fixture(scope="module")
def pipe():
    return Pipeline.load("demo")


@pytest.fixture(scope="module")
def plain(pipe):
    return pipe("a lake at dawn", num_inference_steps=STEPS)


def bytes_of(params):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


# Half a step at most: of 127 to the largest of the channel; of 3 explicit bits of each value, and
# below the least normal float8 number (2^-6 of 448) of 2^-9.
@pytest.mark.parametrize(
    ("dtype", "bound"),
    [
        ("bfloat16", lambda a, largest: np.abs(a) * 2**-8),
        ("int8", lambda a, largest: largest / 254),
        ("float8_e4m3fn", lambda a, largest: np.maximum(np.abs(a) / 16, largest / 448 * 2**-10)),
    ],
)
def test_rounding_has_its_bound_and_is_of_kernels_only(dtype, bound):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 20, 30)) * np.geomspace(1e-3, 10, 30)
    kernel = jnp.asarray(kernel, jnp.float32)
    bias = jnp.asarray(rng.normal(size=30), jnp.float32)
    found = expand(quantize({"conv": {"kernel": kernel, "bias": bias}}, dtype))["conv"]
    np.testing.assert_array_equal(found["bias"], bias)
    largest = np.abs(kernel).max((0, 1, 2))
    error = np.abs(np.asarray(found["kernel"]) - kernel)
    assert found["kernel"].dtype == jnp.float32
    assert (error <= bound(np.asarray(kernel), largest) * (1 + 1e-5)).all()
    assert error.max() > 0


# The files hold bfloat16, so bfloat16 changes nothing but the order of sums.
@pytest.mark.parametrize(
    ("dtype", "least", "share"),
    [("bfloat16", 60.0, 0.51), ("int8", 30.0, 0.28), ("float8_e4m3fn", 25.0, 0.28)],
)
def test_pictures_hardly_change_and_weights_shrink(pipe, plain, dtype, least, share):
    small = pipe.quantized(dtype)
    made = small("a lake at dawn", num_inference_steps=STEPS)
    error = np.square(made.images.astype(float) - plain.images).mean()
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > least
    assert bytes_of(small.model.params["ema"]) < share * bytes_of(pipe.model.params["ema"])
    assert made.model == f"demo:{dtype}"


def test_kernels_are_expanded_where_they_are_used_and_not_all_at_once(pipe):
    small = pipe.quantized("int8")
    sample = small.sampler(num_inference_steps=4)
    keys = jax.random.split(jax.random.key(0), 1)
    text = small.encode(["a lake"], [""])
    lowered = sample.lower(small.model.params["ema"], text, keys)
    used = lowered.compile(program.SPARING).memory_analysis()
    weights = bytes_of(pipe.model.params["ema"])
    assert used.argument_size_in_bytes < 0.3 * weights
    assert used.temp_size_in_bytes < 0.2 * weights


def test_reuse_and_guidance_off_take_them(pipe):
    small = pipe.quantized("bfloat16")
    settings = {"num_inference_steps": STEPS, "guidance_scale": 1.0, "reuse_every": 2}
    found = small("a lake", **settings).images.astype(int)
    assert np.abs(found - pipe("a lake", **settings).images).max() <= 2


def test_bad_requests_are_told(pipe, tmp_path):
    with pytest.raises(ValueError, match="dtype must be one of bfloat16, int8, float8_e4m3fn"):
        pipe.quantized("int3")
    small = pipe.quantized("int8")
    with pytest.raises(ValueError, match="demo:int8 is quantized already"):
        small.quantized("int8")
    with pytest.raises(ValueError, match="lora must be added before demo:int8 is quantized"):
        small.with_lora(tmp_path / "adapter.safetensors")


def test_the_server_knows_the_same_dtypes():
    (literal, _) = typing.get_args(ServerSettings.model_fields["quantize"].annotation)
    assert typing.get_args(literal) == DTYPES
