"""Checkpoints are whole or not there; damage is found and named."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax import files
from dg2_jax.models import weights_file
from dg2_jax.models.weights_file import WeightsError
from dg2_jax.training.checkpoint import CheckpointManager
from dg2_jax.training.state import TrainState
from tests.training import helpers


def make_state(value):
    state = helpers.make_state(helpers.make_config())
    filled = jax.tree.map(lambda a: jnp.full_like(a, value), state)
    return filled._replace(step=jnp.int32(value))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two checkpoints, read only."""
    manager = CheckpointManager(tmp_path_factory.mktemp("saved"))
    for step in (3, 6):
        manager.save(step, make_state(step), {"seed": 1}, {"next_index": step})
    manager.wait()
    return manager.folder


@pytest.fixture
def manager(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "checkpoints")
    return CheckpointManager(tmp_path / "checkpoints")


def test_round_trip(manager):
    assert manager.steps() == [3, 6]
    restored = manager.restore(jax.eval_shape(lambda: make_state(0)))
    assert restored.step == 6
    assert restored.config == {"seed": 1}
    assert restored.data_position == {"next_index": 6}
    jax.tree.map(np.testing.assert_array_equal, restored.state, make_state(6))
    assert jax.tree.structure(restored.state) == jax.tree.structure(make_state(6))
    assert manager.restore(make_state(0), step=3).data_position == {"next_index": 3}


def test_items_are_separate(manager):
    names = {p.name for p in (manager.folder / "6").iterdir()}
    assert names >= {"raw", "ema", "opt", "config.json", "data.json", "manifest.json"}


def test_only_the_newest_are_kept(tmp_path):
    manager = CheckpointManager(tmp_path, keep=2)
    for step in (4, 8, 12):
        manager.save(step, make_state(step), {}, {})
    manager.wait()
    assert manager.steps() == [8, 12]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["12", "8"]


def damage_delete(path):
    path.unlink()


def damage_empty(path):
    path.write_bytes(b"")


def damage_halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_drop(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3] + data[len(data) // 3 + 1 :])


def damage_flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGES = [damage_delete, damage_empty, damage_halve, damage_drop, damage_flip]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_is_found_and_named(manager, damage):
    folder = Path(manager.folder) / "6"
    paths = [p for p in folder.rglob("*") if p.is_file()]
    assert len(paths) > 10
    for path in paths:
        original = path.read_bytes()
        if not original and damage is not damage_delete:
            continue
        damage(path)
        with pytest.raises(WeightsError) as caught:
            manager.restore(make_state(0), step=6)
        # A flipped bit in the manifest shows at the file whose digest, or name, it changed.
        if path.name != "manifest.json":
            assert str(path) in str(caught.value)
        path.write_bytes(original)
    assert manager.restore(make_state(0)).step == 6


def test_damaged_checkpoint_is_passed_over(manager, caplog):
    victim = manager.folder / "6" / "data.json"
    victim.write_text(json.dumps({"next_index": 7}))
    restored = manager.restore(make_state(0))
    assert restored.step == 3
    jax.tree.map(np.testing.assert_array_equal, restored.state, make_state(3))
    assert str(victim) in caplog.text
    damage_delete(manager.folder / "3" / "config.json")
    with pytest.raises(WeightsError, match=r"no good checkpoint.*data\.json.*config\.json"):
        manager.restore(make_state(0))


def test_missing_checkpoints(tmp_path, manager):
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        CheckpointManager(tmp_path / "new").restore(make_state(0))
    with pytest.raises(FileNotFoundError, match=r"step 5 .*\[3, 6\]"):
        manager.restore(make_state(0), step=5)
    with pytest.raises(ValueError, match="keep"):
        CheckpointManager(tmp_path, keep=0)


def test_another_structure_is_refused(manager):
    other = make_state(0)
    params = {"w": jnp.zeros(4), "extra": jnp.zeros(())}
    with pytest.raises(WeightsError) as caught:
        manager.restore(TrainState(other.step, params, params, other.opt_state))
    for part in ("missing: extra", "unexpected: b", "w (has (3,), needs (4,))"):
        assert part in str(caught.value)


@pytest.mark.parametrize("failing", ["sha256", "sync"])
def test_failed_save_leaves_the_older_ones(manager, monkeypatch, failing):
    def fail(path):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(files, failing, fail)
        manager.save(9, make_state(9), {}, {})
        with pytest.raises(OSError, match=r"checkpoint 9 could not be written.*No space left"):
            manager.save(10, make_state(10), {}, {})
    assert manager.steps() == [3, 6]
    assert manager.restore(make_state(0)).step == 6
    manager.save(9, make_state(9), {}, {})
    manager.wait()
    assert manager.steps() == [3, 6, 9]
    assert manager.restore(make_state(0)).step == 9


def test_half_written_folder_is_not_listed_and_is_swept(manager):
    shutil.copytree(manager.folder / "6", manager.folder / "9.partial")
    assert manager.latest_step() == 6
    manager.save(9, make_state(9), {}, {})
    manager.wait()
    assert sorted(p.name for p in manager.folder.iterdir()) == ["3", "6", "9"]


def test_multiples_of_keep_every_stay(tmp_path):
    manager = CheckpointManager(tmp_path, keep=1, keep_every=4)
    for step in (4, 6, 8, 10):
        manager.save(step, make_state(step), {}, {})
    manager.wait()
    assert manager.steps() == [4, 8, 10]


def test_where_nothing_can_be_renamed_the_manifest_is_the_commit(tmp_path):
    # A local folder stands in for an object store; the stores themselves are not tested here.
    manager = CheckpointManager(tmp_path, keep=2)
    manager._renames = False
    for step in (1, 2, 3):
        manager.save(step, make_state(step), {"seed": step}, {})
    assert manager.restore(make_state(0)).config == {"seed": 3}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3"]
    (tmp_path / "3" / "manifest.json").unlink()  # as if the save had been killed before its end
    assert manager.steps() == [2]
    manager.save(3, make_state(4), {"seed": 4}, {})
    assert manager.restore(make_state(0)).config == {"seed": 4}


PARAMS = {"down": {0: {"kernel": np.linspace(-1, 1, 6).reshape(2, 3)}}, "bias": np.ones(3)}


def like(**changes):
    tree = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.float32), PARAMS)
    return {**tree, **changes}


def test_weights_round_trip(tmp_path):
    path = tmp_path / "new" / "w.safetensors"
    weights_file.save(path, PARAMS)
    loaded = weights_file.load(path, like())
    np.testing.assert_array_equal(
        loaded["down"][0]["kernel"], PARAMS["down"][0]["kernel"].astype(np.float32)
    )
    assert list(weights_file.flatten(loaded)) == ["bias", "down.0.kernel"]


def test_bfloat16_weights_load_as_float32(tmp_path):
    path = tmp_path / "w.safetensors"
    weights_file.save(path, PARAMS, jnp.bfloat16)
    kernel = weights_file.load(path, like())["down"][0]["kernel"]
    assert kernel.dtype == jnp.float32
    np.testing.assert_allclose(kernel, PARAMS["down"][0]["kernel"], rtol=2**-8)


def test_weights_that_do_not_fit_are_listed(tmp_path):
    path = tmp_path / "w.safetensors"
    weights_file.save(path, PARAMS)
    other = like(bias=jax.ShapeDtypeStruct((4,), jnp.float32), new=np.zeros(1))
    del other["down"]
    with pytest.raises(WeightsError) as caught:
        weights_file.load(path, other)
    for part in ("missing: new", "unexpected: down.0.kernel", "bias (has (3,), needs (4,))"):
        assert part in str(caught.value)


@pytest.mark.parametrize("damage", [damage_delete, damage_empty, damage_halve])
def test_bad_weights_files(tmp_path, damage):
    path = tmp_path / "w.safetensors"
    weights_file.save(path, PARAMS)
    damage(path)
    expected = FileNotFoundError if damage is damage_delete else WeightsError
    with pytest.raises(expected, match=r"w\.safetensors"):
        weights_file.load(path, like())
