"""The same losses on any number of devices and processes; what any of them saved, all can load."""

import functools
import json
import types

import numpy as np
import pytest
from jax.sharding import PartitionSpec

from dg2_jax.models.architectures import ARCHITECTURES
from dg2_jax.models.interface import TensorRules
from dg2_jax.training import sharding
from dg2_jax.training.config import DevicesConfig
from tests.training import processes, spread


def finished(started, codes=(0,)):
    """Waits for processes; none may hang."""
    for process in started:
        process.join(300)
        hangs = process.exitcode is None
        process.kill()
        assert not hangs
        assert process.exitcode in codes


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """Losses of 20 steps by network and layout, on 8 virtual devices, and what was restored."""
    path = tmp_path_factory.mktemp("curves") / "curves.json"
    finished([processes.start(spread.curves, path)])
    return json.loads(path.read_text())


@pytest.mark.parametrize("network", ["unet", "dit"])
def test_losses_do_not_depend_on_the_devices(curves, network):
    alone = np.array(curves[network].pop("1 x 1 x 1"))
    assert len(alone) == 20
    assert np.ptp(alone) > 0.01
    for layout, losses in curves[network].items():
        np.testing.assert_allclose(losses, alone, rtol=1e-5, err_msg=layout)


def test_arrays_are_bit_equal_after_resharding(curves):
    assert curves["restored on"] == [1, 2, 8, 1]
    assert curves["digests"] == [curves["digests"][0]] * 4
    # and they do lie in parts
    assert curves["largest part"][2] <= curves["largest part"][0] / 4


def test_two_processes_train_as_one(tmp_path, curves):
    finished(spread.start_two(spread.curve_of_two, tmp_path))
    actual = [json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2)]
    assert actual[0] == actual[1]
    np.testing.assert_allclose(actual[0]["losses"], curves["alone"], rtol=1e-5)
    assert actual[0]["val_loss"] == pytest.approx(curves["alone val_loss"], rel=1e-5)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """What two processes come to that nobody kills."""
    folder = tmp_path_factory.mktemp("unbroken")
    finished(spread.start_two(spread.killed_of_two, folder, None, None))
    return processes.outcome(folder)


@pytest.mark.parametrize(("victim", "point"), [(1, "in a step"), (0, "before the commit")])
def test_one_of_two_is_killed(tmp_path, unbroken, victim, point):
    started = spread.start_two(spread.killed_of_two, tmp_path, victim, point)
    for process in started:
        process.join(300)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert None not in codes, "one hangs"
    assert 0 not in codes
    finished(spread.start_two(spread.killed_of_two, tmp_path, None, None))
    assert processes.outcome(tmp_path) == unbroken


def test_rules():
    rules = ARCHITECTURES["dit"].tensor_rules
    layout = sharding.make_layout(DevicesConfig(), 8, rules)
    assert layout.mesh.shape == {"data": 1, "fsdp": 1, "tensor": 1}

    # Only the mesh's shape is read; a real one needs 16 devices.
    wide = types.SimpleNamespace(
        mesh=types.SimpleNamespace(shape={"data": 2, "fsdp": 4, "tensor": 2}), tensor_rules=rules
    )
    spec = functools.partial(sharding.Layout.spec, wide)
    assert spec("opt.mu.blocks.0.qkv.kernel", (256, 768)) == PartitionSpec("fsdp", "tensor")
    assert spec("blocks.0.outer.kernel", (1024, 256)) == PartitionSpec("tensor", "fsdp")
    assert spec("down.0.conv1.kernel", (3, 3, 64, 128)) == PartitionSpec(None, None, None, "fsdp")
    assert spec("odd.kernel", (3, 3, 129, 131)) == PartitionSpec(None, None, None, None)
    assert spec("norm.scale", (256,)) == PartitionSpec()
    # Not every name that ends alike is a layer of the rules.
    assert spec("blocks.0.faqkv.kernel", (256, 768)) == PartitionSpec(None, "fsdp")


@pytest.mark.parametrize(
    ("devices", "batch", "message"),
    [
        ({"fsdp": 3}, 6, r"devices\.data x fsdp x tensor must be the number of devices, 1, got -1"),
        ({"accumulation_steps": 4}, 6, "batch_size must be a multiple of 4"),
    ],
)
def test_what_cannot_be_divided_is_named(devices, batch, message):
    with pytest.raises(ValueError, match=message):
        sharding.make_layout(DevicesConfig(**devices), batch, TensorRules())
