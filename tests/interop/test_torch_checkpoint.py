"""Reading honest files: every type, strides, sharing, unknown classes, safetensors."""

import json
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from torch_files import STORAGES, Call, Global, Persistent, record, storage, tensor, write_torch

from dg2_jax.interop.torch_checkpoint import Record, read_safetensors, read_torch


@pytest.mark.parametrize("dtype", STORAGES, ids=str)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_every_type_and_protocol(tmp_path, dtype, protocol):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    found = read_torch(write_torch(tmp_path / "a.pt", {"a": array}, protocol=protocol))["a"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("name", ["uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"])
def test_types_without_a_storage_class(tmp_path, name):
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    array = np.arange(4).astype(dtype)
    untyped = Global("torch.storage", "UntypedStorage")
    stored = Persistent(("storage", untyped, "0", "cpu", array.nbytes))
    args = (stored, 1, (3,), (1,), False, OrderedDict(), Global("torch", name))
    call = Call(Global("torch._utils", "_rebuild_tensor_v3"), args)
    found = read_torch(write_torch(tmp_path / "a.pt", call, {"0": array}))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array[1:])


def test_strides_offsets_and_shared_storages(tmp_path):
    base = np.arange(24, dtype=np.float32)
    stored = storage("7", np.float32, 24)
    content = {
        "whole": tensor(stored, 0, (4, 6), (6, 1)),
        "transposed": tensor(stored, 0, (6, 4), (1, 6)),
        "every_other": tensor(stored, 1, (12,), (2,)),
        "expanded": tensor(stored, 3, (2, 3), (0, 1)),
        "scalar": tensor(stored, 23, (), ()),
        "empty": tensor(stored, 24, (0, 5), (5, 1)),
    }
    found = read_torch(write_torch(tmp_path / "a.pt", content, {"7": base}))
    np.testing.assert_array_equal(found["whole"], base.reshape(4, 6))
    np.testing.assert_array_equal(found["transposed"], base.reshape(4, 6).T)
    np.testing.assert_array_equal(found["every_other"], base[1::2])
    np.testing.assert_array_equal(found["expanded"], [[3, 4, 5]] * 2)
    assert found["scalar"] == 23
    assert found["empty"].shape == (0, 5)
    assert np.shares_memory(found["whole"], found["every_other"])


def test_parameters_and_plain_containers(tmp_path):
    weight = np.ones((2, 2), np.float32)
    content = OrderedDict(
        parameter=Call(Global("torch._utils", "_rebuild_parameter"), (weight, True, OrderedDict())),
        size=Call(Global("torch", "Size"), ((2, 3),)),
        numbers=[1, -(2**40), 1.5, True, None, 2**70],
        sets=({1, 2}, frozenset({3})),
        raw=b"\x00\xff",
        nested={"a": [{"b": ("c",)}], 3: 4, (1, "x"): 5},
    )
    found = read_torch(write_torch(tmp_path / "a.pt", content))
    np.testing.assert_array_equal(found.pop("parameter"), weight)
    assert found == {
        "size": (2, 3),
        "numbers": [1, -(2**40), 1.5, True, None, 2**70],
        "sets": ({1, 2}, frozenset({3})),
        "raw": b"\x00\xff",
        "nested": {"a": [{"b": ("c",)}], 3: 4, (1, "x"): 5},
    }


def test_unknown_classes_become_inert_records(tmp_path):
    inner = record("somewhere.configs", "Inner", {"width": 3})
    content = {
        "config": record("somewhere.configs", "Config", {"inner": inner}),
        "slots": record("somewhere", "Slots", (None, {"a": 1})),
        "path": Call(Global("pathlib", "PosixPath"), ("data", "shards")),
    }
    found = read_torch(write_torch(tmp_path / "a.pt", content))
    config = found["config"]
    assert isinstance(config, Record)
    assert config.class_name == "somewhere.configs.Config"
    assert config.get("inner").get("width") == 3
    assert config.get("absent", "default") == "default"
    assert found["slots"].get("a") == 1
    assert found["path"].args == ("data", "shards")


def test_arrays_are_read_only_views_of_the_file(tmp_path):
    found = read_torch(write_torch(tmp_path / "a.pt", {"a": np.zeros(4, np.float32)}))["a"]
    assert not found.flags.writeable
    assert not found.flags.owndata


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        read_torch(tmp_path / "absent.pt")
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors"):
        read_safetensors(tmp_path / "absent.safetensors")


def test_safetensors_against_the_reference_writer(tmp_path):
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(3, dtype=np.int64),
        "c": np.arange(4).astype(ml_dtypes.bfloat16),
        "scalar": np.array(2, np.float16),
        "empty": np.zeros((0, 3), np.uint8),
        "flag": np.array([True, False]),
    }
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(arrays, path, {"format": "pt"})
    found = read_safetensors(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_sharded_safetensors(tmp_path):
    parts = {"one.safetensors": {"a": np.ones(2)}, "two.safetensors": {"b": np.zeros(3)}}
    for name, arrays in parts.items():
        safetensors.numpy.save_file(arrays, tmp_path / name)
    weight_map = {"a": "one.safetensors", "b": "two.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    found = read_safetensors(index)
    assert {name: array.shape for name, array in found.items()} == {"a": (2,), "b": (3,)}
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"two\.safetensors"):
        read_safetensors(index)
