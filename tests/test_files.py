"""Files are written whole, with the mode that the umask gives."""

import os
import stat

import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax import files
from dg2_jax.data import latents
from dg2_jax.models import dg2_import, lora, weights_file
from dg2_jax.training.checkpoint import CheckpointManager
from tests import tiny_model
from tests.training import helpers


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def write_half():
        with files.replacing(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077])
def test_every_file_has_the_mode_of_the_umask(tmp_path, umask):
    params = {"a": jnp.ones((2, 2))}
    before = os.umask(umask)
    try:
        weights_file.save(tmp_path / "weights.safetensors", params)
        adapters = {"attention.q": {"a": jnp.ones((2, 1)), "b": jnp.ones((1, 2))}}
        lora.save(tmp_path / "lora.safetensors", adapters, lora.LoraConfig(rank=1), "unet")
        dg2_import._write_safetensors(tmp_path / "dg2.safetensors", {"a": np.ones(2)})
        latents.write_split(tmp_path / "shard.array_record", [{"mean": np.ones(2, np.float16)}])
        tiny_model.save(tmp_path / "model")
        manager = CheckpointManager(tmp_path / "checkpoints")
        manager.save(1, helpers.make_state(helpers.make_config()), {}, {})
        manager.wait()
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode)
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert len(modes) > 8
    assert {n: oct(m) for n, m in modes.items() if m != 0o666 & ~umask} == {}
