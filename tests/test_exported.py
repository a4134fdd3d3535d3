"""A sampler that was written to bytes samples as the one it was made of, on any platform."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax import exported, sampling


@pytest.fixture(scope="module")
def made(pipe):
    """A sampler and its arguments."""
    text = pipe.encode(["a lake", "a glacier"], ["", "fog"])
    keys = sampling.image_keys(jnp.array([4, 5], jnp.uint32))
    sample = pipe.sampler(num_inference_steps=3, guidance_scale=2.0)
    return sample, (pipe.model.params["ema"], text, keys)


@pytest.fixture(scope="module")
def data(made):
    sample, args = made
    return exported.serialize(sample, *args, platforms=("cpu", "cuda", "tpu"))


def test_it_samples_the_same_with_any_weights(made, data):
    sample, (params, text, keys) = made
    again = exported.deserialize(data)
    np.testing.assert_allclose(again(params, text, keys), sample(params, text, keys), atol=1e-5)
    other = jax.tree.map(lambda leaf: leaf * 0.9, params)
    np.testing.assert_allclose(again(other, text, keys), sample(other, text, keys), atol=1e-5)
    assert len(data) < sum(leaf.nbytes for leaf in jax.tree.leaves(params)) + 500_000


def test_it_is_read_without_the_networks(data, tmp_path):
    (tmp_path / "sampler").write_bytes(data)
    code = (
        "import pathlib, sys; from dg2_jax import exported; "
        "exported.deserialize(pathlib.Path(sys.argv[1]).read_bytes()); "
        "assert not [m for m in sys.modules if m.startswith('dg2_jax.nn') or m == 'flax']"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "sampler"], check=True)


def test_what_does_not_fit_is_told(made, data):
    sample, (params, text, keys) = made
    with pytest.raises(ValueError, match=r"(?s)uint32|shape|dimension"):
        exported.deserialize(data)(params, text, keys[:1])
    with pytest.raises(ValueError, match="platforms must be of cpu, cuda, rocm, tpu; got gpu"):
        exported.serialize(sample, params, text, keys, platforms=("gpu",))
