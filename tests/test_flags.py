"""The same seed is the same picture whatever JAX's global flags are; each in its own process."""

import os
import subprocess
import sys

import numpy as np
import pytest

FLAGS = [
    {"JAX_ENABLE_X64": "1"},
    {"JAX_DEFAULT_PRNG_IMPL": "rbg"},
    {"JAX_THREEFRY_PARTITIONABLE": "0"},
    {
        "JAX_ENABLE_X64": "1",
        "JAX_DEFAULT_PRNG_IMPL": "unsafe_rbg",
        "JAX_THREEFRY_PARTITIONABLE": "0",
    },
]


def made(folder, out, flags):
    """What `tests.flagged` makes of a model folder under some flags."""
    command = [sys.executable, "-m", "tests.flagged", str(folder), str(out)]
    done = subprocess.run(command, env={**os.environ, **flags}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def usual(folder, tmp_path_factory):
    return made(folder, tmp_path_factory.mktemp("usual") / "out.npz", {})


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: "+".join(flags))
def test_a_seed_is_one_picture_under_all_flags(folder, usual, tmp_path, flags):
    other = made(folder, tmp_path / "out.npz", flags)
    assert set(other) == set(usual)
    for name, array in usual.items():
        assert other[name].dtype == array.dtype, name
        if name in ("weights", "losses"):  # optax computes bias corrections in float64 then
            np.testing.assert_allclose(other[name], array, rtol=1e-5, atol=1e-8, err_msg=name)
            continue
        np.testing.assert_array_equal(other[name], array, err_msg=name)
