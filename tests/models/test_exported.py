"""A sampler that was written to bytes samples as the one it was made of."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion import sampling
from dg2_jax.models import exported


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
    largest = max(jax.tree.leaves(params), key=lambda leaf: leaf.nbytes)
    assert np.asarray(largest).tobytes() not in data


def test_it_is_read_without_the_networks(data, tmp_path):
    (tmp_path / "sampler").write_bytes(data)
    code = (
        "import pathlib, sys; from dg2_jax.models import exported; "
        "exported.deserialize(pathlib.Path(sys.argv[1]).read_bytes()); "
        "assert not [m for m in sys.modules if m.startswith('dg2_jax.nn') or m == 'flax']"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "sampler"], check=True)


def test_what_does_not_fit_is_told(made, data):
    sample, (params, text, keys) = made
    with pytest.raises(ValueError, match=r"(?s)uint32|shape|dimension"):
        exported.deserialize(data)(params, text, keys[:1])
    for platforms in (("gpu",), ()):
        with pytest.raises(ValueError, match="platforms must be some of cpu, cuda, rocm, tpu, got"):
            exported.serialize(sample, params, text, keys, platforms=platforms)
    for cut in (b"", data[:1000], b"no program at all"):
        with pytest.raises(ValueError, match=r"data must be whole and of exported\.serialize"):
            exported.deserialize(cut)
    for_tpu = exported.deserialize(exported.serialize(jnp.sin, 0.5, platforms=["tpu"]))
    with pytest.raises(ValueError, match="tpu"):
        for_tpu(0.5)
