"""Sampling on several devices: the batch is sharded, the pictures stay the same."""

import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np

from dg2_jax.diffusion import sampling

SCRIPT = """
import sys
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from dg2_jax import Pipeline
from dg2_jax.diffusion import sampling

pipe = Pipeline.load(sys.argv[1])
mesh = jax.make_mesh((4,), ("images",))
text = pipe.encode(["a lake", "a volcano", "", "dunes"], ["fog", "", "", ""])
keys = sampling.image_keys(np.arange(4, dtype=np.uint32))
text, keys = jax.device_put((text, keys), NamedSharding(mesh, PartitionSpec("images")))
params = jax.device_put(pipe.model.params["ema"], NamedSharding(mesh, PartitionSpec()))
latents = pipe.sampler(num_inference_steps=2)(params, text, keys)
assert {s.data.shape[0] for s in latents.addressable_shards} == {1}, latents.sharding
np.save(sys.argv[2], latents)
"""


def test_four_devices_sample_what_one_does(folder, pipe, tmp_path):
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4"
    command = [sys.executable, "-c", SCRIPT, str(folder), str(tmp_path / "latents.npy")]
    subprocess.run(command, env=os.environ | {"XLA_FLAGS": flags}, check=True)
    text = pipe.encode(["a lake", "a volcano", "", "dunes"], ["fog", "", "", ""])
    keys = sampling.image_keys(jnp.arange(4, dtype=jnp.uint32))
    one = pipe.sampler(num_inference_steps=2)(pipe.model.params["ema"], text, keys)
    np.testing.assert_allclose(np.load(tmp_path / "latents.npy"), one, atol=1e-4)
