"""Writes files in PyTorch's zip format without torch, honest ones and others."""

import io
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

STORAGES = {
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.int32): "IntStorage",
    np.dtype(np.int16): "ShortStorage",
    np.dtype(np.int8): "CharStorage",
    np.dtype(np.uint8): "ByteStorage",
    np.dtype(np.bool_): "BoolStorage",
    np.dtype(np.complex64): "ComplexFloatStorage",
    np.dtype(np.complex128): "ComplexDoubleStorage",
}


@dataclass(frozen=True)
class Global:
    """A module's attribute, by name only."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """An object that the pickle makes by calling `function(*args)` and setting `state`."""

    function: Any
    args: tuple
    state: Any = None


@dataclass(frozen=True)
class Persistent:
    """An object that is stored outside the pickle."""

    identity: Any


def storage(key, dtype, count):
    name = Global("torch", STORAGES[np.dtype(dtype)])
    return Persistent(("storage", name, key, "cpu", count))


def tensor(stored, offset, shape, strides):
    args = (stored, offset, shape, strides, False, OrderedDict())
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), args)


def record(module, name, state):
    """An instance of a class, as pickle protocol 2 writes it."""
    return Call(Global(module, name), (), state)


class Pickler(pickle._Pickler):
    """Knows the classes above; arrays become tensors, each on a storage of its own."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def __init__(self, file, protocol=2):
        super().__init__(file, protocol)
        self.arrays = []

    def save_global_by_name(self, obj):
        self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())

    def save_call(self, obj):
        self.save(obj.function)
        self.save(obj.args)
        self.write(pickle.REDUCE)
        if obj.state is not None:
            self.save(obj.state)
            self.write(pickle.BUILD)

    def save_persistent(self, obj):
        self.save(obj.identity)
        self.write(pickle.BINPERSID)

    def save_array(self, array):
        key = str(len(self.arrays))
        self.arrays.append(array)
        strides = tuple(int(np.prod(array.shape[i + 1 :])) for i in range(array.ndim))
        self.save(tensor(storage(key, array.dtype, array.size), 0, array.shape, strides))

    dispatch[Global] = save_global_by_name
    dispatch[Call] = save_call
    dispatch[Persistent] = save_persistent
    dispatch[np.ndarray] = save_array


def write_archive(path, entries, prefix="archive", compression=zipfile.ZIP_STORED):
    """`entries`: name below the prefix -> bytes or array."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            array = isinstance(data, np.ndarray)
            archive.writestr(f"{prefix}/{name}", memoryview(data).cast("B") if array else data)
    return path


def write_torch(path, content, storages=(), protocol=2):
    """`torch.save(content, path)`; `storages` are what explicit `storage(...)` refer to."""
    buffer = io.BytesIO()
    pickler = Pickler(buffer, protocol)
    pickler.dump(content)
    entries = {"data.pkl": buffer.getvalue(), "byteorder": b"little", "version": b"3\n"}
    arrays = {str(i): a for i, a in enumerate(pickler.arrays)} | dict(storages)
    for key, array in arrays.items():
        plain = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        entries[f"data/{key}"] = plain if plain.size else b""
    return write_archive(path, entries)
