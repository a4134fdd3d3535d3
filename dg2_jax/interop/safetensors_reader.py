"""Safetensors files, single and sharded, as numpy arrays that view the memory-mapped file.

The header is checked here, so that a damaged or hostile file ends in one clear error. Format:
eight bytes with the header's length, a JSON header, then the tensors, end to end.
"""

import json
import math
import mmap
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from dg2_jax.interop import file_kinds
from dg2_jax.interop.pickle_values import CheckpointError

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_MAX_HEADER = 100_000_000  # bytes; the format's own limit
# JSON values of a header, a hundred times as many as the largest models need: parsed, each takes
# far more memory than its text.
_MAX_VALUES = 5_000_000
_MAX_DIMENSIONS = 32
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Name to array (read-only, memory-mapped) of a safetensors file.

    Args:
        path: a `.safetensors` file, or the `.safetensors.index.json` of a sharded one.

    Raises:
        FileNotFoundError: the file, or a shard that the index names, is missing.
        CheckpointError: the header or the index is damaged or contradicts the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no safetensors file at {path}")
    try:
        return read_index(path, read_safetensors) if path.suffix == ".json" else _read_one(path)
    except CheckpointError as error:
        expected = "JSON" if path.suffix == ".json" else "safetensors"
        file_kinds.refuse_other(path, expected, CheckpointError)
        raise CheckpointError(f"{path}: {error}") from error


def _parse(text: bytes) -> Any:
    """JSON without the repeated keys, huge numbers and deep nesting that parsers disagree about."""

    def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(result := dict(pairs)) != len(pairs):
            raise ValueError("a key appears twice")
        return result

    if len(text) > _MAX_VALUES and _STRING.sub(b"", text).count(b",") > _MAX_VALUES:
        raise CheckpointError(f"its header holds more than {_MAX_VALUES} values")
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=no_repeats)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"damaged header: {error}") from error


def _read_one(path: Path) -> dict[str, np.ndarray]:
    size = path.stat().st_size
    if size < 8:
        raise CheckpointError("truncated: shorter than its eight-byte length")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        room = size - 8 - length
        if room < 0 or length > _MAX_HEADER:
            raise CheckpointError(f"its header claims {length} bytes of a file of {size}")
        header = _parse(file.read(length))
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if not isinstance(header, dict):
        raise CheckpointError("damaged header: not a dictionary")
    header.pop("__metadata__", None)
    spans = {name: _check_entry(name, entry) for name, entry in header.items()}
    _check_layout({name: (begin, end) for name, (_, _, begin, end) in spans.items()}, room)
    return {
        name: np.ndarray(shape, dtype, data, 8 + length + begin)
        if end > begin
        else np.zeros(shape, dtype)
        for name, (dtype, shape, begin, end) in spans.items()
    }


def _check_entry(name: str, entry: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """(dtype, shape, first byte, end) of a header entry."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"tensor {name!r}: needs exactly dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise CheckpointError(f"tensor {name!r}: dtype must be one of {', '.join(_DTYPES)}")
    if not _counts(shape) or len(shape) > _MAX_DIMENSIONS:
        raise CheckpointError(f"tensor {name!r}: bad shape")
    if not _counts(offsets) or len(offsets) != 2:
        raise CheckpointError(f"tensor {name!r}: bad data_offsets")
    dtype = np.dtype(_DTYPES[kind])
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise CheckpointError(
            f"tensor {name!r}: shape {shape} of {kind} does not fill bytes {begin} to {end}"
        )
    return dtype, tuple(shape), begin, end


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**62 for n in value)


def _check_layout(spans: dict[str, tuple[int, int]], size: int) -> None:
    """The tensors must lie end to end and fill the file."""
    position = 0
    for name, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        if begin != position:
            fault = "overlaps the one before" if begin < position else "leaves a gap before it"
            raise CheckpointError(f"tensor {name!r}: {fault} (starts at byte {begin})")
        position = end
    if position != size:
        raise CheckpointError(f"its tensors take {position} bytes, the file has {size} for them")


def read_index(path: Path, read: Callable[[Path], Any]) -> dict[str, np.ndarray]:
    """The tensors of the files beside an index, `model.safetensors.index.json` or of `.bin` files.

    Args:
        path: the index.
        read: reads one of the files, to a dictionary.

    Raises:
        FileNotFoundError: a file that the index names is missing.
        CheckpointError: the index or a file is damaged, or they contradict each other.
    """
    if path.stat().st_size > _MAX_HEADER // 4:
        raise CheckpointError("the index is too large")
    index = _parse(path.read_bytes())
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not all(isinstance(f, str) for f in names.values()):
        raise CheckpointError("the index has no weight_map of tensor to file name")
    tensors: dict[str, np.ndarray] = {}
    for shard in sorted(set(names.values())):
        if "/" in shard or "\\" in shard or "\0" in shard or shard in ("", ".", ".."):
            raise CheckpointError(f"the index names {shard!r}, which is no plain file name")
        expected = {name for name, file in names.items() if file == shard}
        held = read(path.parent / shard)
        if not isinstance(held, dict):
            raise CheckpointError(f"{shard} holds a {type(held).__name__}, not a state dict")
        if missing := sorted(expected - held.keys()):
            raise CheckpointError(f"{shard} lacks {', '.join(missing[:8])}")
        tensors |= {name: held[name] for name in expected}
    return tensors
