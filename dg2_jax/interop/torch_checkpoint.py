"""PyTorch checkpoints and safetensors as numpy arrays, without torch and without running a pickle.

`read_torch` reads the zip format that `torch.save` has written since PyTorch 1.6. The arrays are
read-only views of the memory-mapped file: what is not used is never loaded.
"""

import math
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from dg2_jax.interop import file_kinds, stored_zip
from dg2_jax.interop.pickle_values import CheckpointError, Known, Record, Reference
from dg2_jax.interop.safe_pickle import loads
from dg2_jax.interop.safetensors_reader import read_safetensors

__all__ = ["CheckpointError", "Record", "read_safetensors", "read_torch"]

_DTYPES: dict[str, np.dtype] = {
    name: np.dtype(kind)
    for name, kind in {
        "float64": np.float64,
        "float32": np.float32,
        "float16": np.float16,
        "bfloat16": ml_dtypes.bfloat16,
        "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
        "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
        "float8_e5m2": ml_dtypes.float8_e5m2,
        "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
        "float8_e8m0fnu": ml_dtypes.float8_e8m0fnu,
        "complex64": np.complex64,
        "complex128": np.complex128,
        "int64": np.int64,
        "int32": np.int32,
        "int16": np.int16,
        "int8": np.int8,
        "uint64": np.uint64,
        "uint32": np.uint32,
        "uint16": np.uint16,
        "uint8": np.uint8,
        "bool": np.bool_,
    }.items()
}
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
_MAX_DIMENSIONS = 32
# The pickle holds only names and shapes, so it is a small part of the file. Its text may take four
# times its bytes in memory.
_MIN_PICKLE = 8 << 20
_PICKLE_SHARE = 8
# One object of a pickle takes up to about 70 bytes; the floor is what small files get anyway.
_MIN_OPERATIONS = 100_000
_BYTES_PER_OPERATION = 80


@dataclass(frozen=True, eq=False)
class _Storage:
    """The bytes of one storage: `size` of them at `offset` of the file."""

    key: str
    dtype: np.dtype
    offset: int
    size: int


class _Archive:
    """A memory-mapped checkpoint and the functions its pickle may use."""

    def __init__(self, data: mmap.mmap):
        self.data = data
        self.entries = stored_zip.entries(data)
        names = [name for name in self.entries if name.rpartition("/")[2] == "data.pkl"]
        if len(names) != 1:
            raise CheckpointError("not a PyTorch checkpoint: the zip archive has no data.pkl")
        self.prefix = names[0].removesuffix("data.pkl")
        if any(name.startswith(f"{self.prefix}code/") for name in self.entries):
            raise CheckpointError("a TorchScript archive; save the module's state_dict instead")
        order = self.read("byteorder", b"little")
        if order.strip() != b"little":
            raise CheckpointError(f"byte order {order[:16]!r} is not read; only little-endian is")

    def read(self, name: str, default: bytes) -> bytes:
        offset, size = self.entries.get(self.prefix + name, (0, -1))
        return default if size < 0 else self.data[offset : offset + size]

    def load(self) -> Any:
        start, size = self.entries[f"{self.prefix}data.pkl"]
        if size > max(_MIN_PICKLE, len(self.data) // _PICKLE_SHARE):
            raise CheckpointError(f"its pickle takes {size} of {len(self.data)} bytes")
        operations = max(_MIN_OPERATIONS, len(self.data) // _BYTES_PER_OPERATION)
        known: dict[str, Any] = {f"torch.{name}": dtype for name, dtype in _DTYPES.items()}
        for name, dtype in _STORAGES.items():
            known[f"torch.{name}"] = known[f"torch.storage.{name}"] = _DTYPES[dtype]
        functions: dict[str, Callable[..., Any]] = {
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_tensor_v3": self.tensor_v3,
            "torch._utils._rebuild_parameter": _first,
            "torch._utils._rebuild_parameter_with_state": _first,
            "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
            "torch.Size": _size,
        }
        for name, call in functions.items():
            known[name] = Known(name, call)
        return loads(self.data, start, start + size, known, self.storage, operations)

    def storage(self, identity: Any) -> _Storage:
        """The storage of a persistent id ("storage", dtype, key, device, number of elements)."""
        if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
            raise CheckpointError("the pickle refers to something other than a storage")
        dtype, key, count = identity[1], identity[2], identity[4]
        if not isinstance(dtype, np.dtype):
            raise CheckpointError(f"storage {key!r}: its type {_describe(dtype)} is not read")
        if not _is_count(count) or f"{self.prefix}data/{key}" not in self.entries:
            raise CheckpointError(f"storage {key!r} is missing from the file")
        offset, size = self.entries[f"{self.prefix}data/{key}"]
        if count * dtype.itemsize != size:
            raise CheckpointError(
                f"storage {key!r} claims {count} elements of {dtype}, but has {size} bytes"
            )
        return _Storage(str(key), dtype, offset, size)

    def tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
        if not isinstance(storage, _Storage):
            raise CheckpointError("a tensor is built on something other than a storage")
        return self._view(storage, storage.dtype, offset, shape, strides)

    def tensor_v3(
        self, storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any,
        dtype: Any, *_: Any,
    ) -> np.ndarray:  # fmt: skip
        if not isinstance(storage, _Storage) or not isinstance(dtype, np.dtype):
            raise CheckpointError(f"a tensor of type {_describe(dtype)} is not read")
        return self._view(storage, dtype, offset, shape, strides)

    def _view(
        self, storage: _Storage, dtype: np.dtype, offset: Any, shape: Any, strides: Any
    ) -> np.ndarray:
        where = f"tensor on storage {storage.key!r}"
        lists = isinstance(shape, tuple | list) and isinstance(strides, tuple | list)
        if (
            not lists
            or len(shape) != len(strides)
            or len(shape) > _MAX_DIMENSIONS
            or not all(map(_is_count, (offset, *shape, *strides)))
        ):
            raise CheckpointError(f"{where}: bad offset, shape or strides")
        elements = math.prod(shape)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if elements and last >= storage.size // dtype.itemsize:
            raise CheckpointError(f"{where}: shape {tuple(shape)} reaches beyond its storage")
        if elements * dtype.itemsize > len(self.data):
            raise CheckpointError(f"{where}: shape {tuple(shape)} is larger than the whole file")
        if not elements:
            return np.zeros(shape, dtype)
        return np.ndarray(
            tuple(shape), dtype, self.data, storage.offset + offset * dtype.itemsize,
            tuple(s * dtype.itemsize for s in strides),
        )  # fmt: skip


def _first(value: Any, *_: Any) -> Any:
    return value


def _size(value: Any = ()) -> tuple:
    if not isinstance(value, tuple | list):
        raise CheckpointError("torch.Size must be made from a tuple")
    return tuple(value)


def _rebuild_from_type(function: Any, _cls: Any, args: Any, _state: Any) -> Any:
    if not isinstance(function, Known) or not isinstance(args, tuple):
        raise CheckpointError(f"a tensor built by {_describe(function)} is not read")
    return function.call(*args)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _describe(value: Any) -> str:
    return value.name if isinstance(value, Reference | Known) else type(value).__name__


def read_torch(path: str | os.PathLike) -> Any:
    """The object that `torch.save` wrote to `path`: containers, numbers, text and numpy arrays.

    Tensors become read-only arrays that view the file (bfloat16 and float8 through `ml_dtypes`).
    Ordered dictionaries become dictionaries; an object of any other class becomes a `Record`.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged or hostile, or in PyTorch's format from before 1.6.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with path.open("rb") as file:
            head = file.read(file_kinds.HEAD)
            if head[:2] != b"PK":
                raise CheckpointError(_what_else(head))
            return _Archive(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _what_else(head: bytes) -> str:
    """What a file is whose first bytes are not those of a zip archive."""
    again = "load it with torch there and save it again with a current torch.save"
    if not head:
        return "the file is empty"
    if head[257:262] == b"ustar":
        return f"PyTorch's tar format (before 0.1.10) is not read; {again}"
    if head[:1] == b"\x80" or head[:1] in b"(cd}]":
        return f"a raw pickle, PyTorch's format before 1.6, is not read; {again}"
    kind = file_kinds.describe(head)
    return f"not a PyTorch checkpoint: it is {kind or 'no zip archive'}"
