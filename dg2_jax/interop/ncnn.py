"""Reader of ncnn networks: the text graph (`.param`) and the weights (`.bin`).

The format is described in ncnn's wiki, "param and model file structure". Only what image networks
made of convolutions need is read; a layer or a weight encoding beyond that is an error, never a
guess, since weights carry no names and one skipped blob would shift all that follow.
"""

import dataclasses
from pathlib import Path

import numpy as np

_MAGIC = "7767517"
_FLOAT32, _FLOAT16 = 0, 0x01306B47  # flag word before a weight blob
_ARRAY_KEY = -23300  # keys at or below it hold arrays: key -23300 - i is parameter i
_WEIGHTLESS = frozenset(
    {"Input", "Split", "Concat", "Eltwise", "BinaryOp", "Interp", "PixelShuffle"}
)

Value = int | float | tuple[int | float, ...]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One line of a `.param` file: `params` maps ncnn's parameter numbers to their values."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: dict[int, Value]


def read_param(path: str | Path) -> list[Layer]:
    """Parses a `.param` text graph.

    Args:
        path: the file.

    Returns:
        The layers, in the file's order, which is also the order of their weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a text `.param` file, or its counts, blobs or parameters are inconsistent;
            the message names the file and the line.
    """
    path = _existing(path)
    try:
        lines = path.read_bytes().decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text .param file (binary files are not read)") from None
    if not lines or lines[0].strip() != _MAGIC:
        raise ValueError(f"{path}: a .param file starts with the line {_MAGIC}")
    try:
        layer_count, blob_count = (int(word) for word in lines[1].split())
    except (IndexError, ValueError):
        raise ValueError(f"{path}, line 2: expected the numbers of layers and blobs") from None

    layers: list[Layer] = []
    blobs: set[str] = set()
    for number, line in enumerate(lines[2:], start=3):
        if not line.strip():
            continue
        try:
            layer = _parse_layer(line.split())
            _connect(layer, blobs)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        layers.append(layer)
    if (len(layers), len(blobs)) != (layer_count, blob_count):
        raise ValueError(
            f"{path}: {len(layers)} layers and {len(blobs)} blobs found, "
            f"{layer_count} and {blob_count} announced; the file is damaged"
        )
    return layers


def _parse_layer(words: list[str]) -> Layer:
    """Kind, name, counts of inputs and outputs, their names, then key=value words."""
    try:
        kind, name = words[:2]
        n_in, n_out = int(words[2]), int(words[3])
    except (IndexError, ValueError):
        raise ValueError(
            "expected a layer's type, name and numbers of inputs and outputs"
        ) from None
    if n_in < 0 or n_out < 0 or len(words) < 4 + n_in + n_out:
        raise ValueError(f"layer {name} names fewer blobs than it announces")
    params: dict[int, Value] = {}
    for word in words[4 + n_in + n_out :]:
        key_text, _, value_text = word.partition("=")
        try:
            key = int(key_text)
            if key <= _ARRAY_KEY:
                count, *values = (_number(text) for text in value_text.split(","))
                if count != len(values):
                    raise ValueError
                params[_ARRAY_KEY - key] = tuple(values)
            else:
                params[key] = _number(value_text)
        except ValueError:
            raise ValueError(f"layer {name}: {word[:60]!r} is not a parameter") from None
    blobs = words[4 : 4 + n_in + n_out]
    return Layer(kind, name, tuple(blobs[:n_in]), tuple(blobs[n_in:]), params)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _connect(layer: Layer, blobs: set[str]) -> None:
    """Adds the layer's outputs to `blobs`, after checking that its inputs were made before."""
    for blob in layer.inputs:
        if blob not in blobs:
            raise ValueError(f"layer {layer.name} reads {blob}, which no earlier layer makes")
    for blob in layer.outputs:
        if blob in blobs:
            raise ValueError(f"layer {layer.name} makes {blob}, which an earlier layer also makes")
        blobs.add(blob)


def read_weights(path: str | Path, layers: list[Layer]) -> dict[str, dict[str, np.ndarray]]:
    """Reads a `.bin` file, whose order and sizes the graph gives.

    Args:
        path: the file.
        layers: the graph of `read_param`.

    Returns:
        For every Convolution `{"weight": (out, in, kh, kw), "bias": (out,)}` (no "bias" where the
        layer has none), for every PReLU `{"slope": (channels,)}`, by layer name; float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a layer of another kind, weights stored as other than float32 or float16 (int8,
            quantised tables), or a file shorter or longer than its graph says.
    """
    path = _existing(path)
    reader = _Blobs(path, path.read_bytes())
    weights: dict[str, dict[str, np.ndarray]] = {}
    for layer in layers:
        if layer.kind in _WEIGHTLESS:
            continue
        if layer.name in weights:
            raise ValueError(f"{path}: two layers have the name {layer.name}")
        if layer.kind == "Convolution":
            weights[layer.name] = _convolution(layer, reader)
        elif layer.kind == "PReLU":
            weights[layer.name] = {"slope": reader.raw(layer.name, _count(layer, 0))}
        else:
            raise ValueError(f"{path}: layer {layer.name} has the kind {layer.kind}, not supported")
    reader.finish()
    return weights


def _convolution(layer: Layer, reader: "_Blobs") -> dict[str, np.ndarray]:
    if layer.params.get(8, 0) != 0:
        raise ValueError(f"{reader.path}: layer {layer.name} has int8 weights, not supported")
    out, kw, size = _count(layer, 0), _count(layer, 1), _count(layer, 6)
    kh = _count(layer, 11) if 11 in layer.params else kw
    if size % (out * kh * kw):
        raise ValueError(
            f"{reader.path}: layer {layer.name} has {size} weights, "
            f"not a multiple of its {out} outputs times {kh}x{kw}"
        )
    weight = reader.flagged(layer.name, size).reshape(out, -1, kh, kw)
    if layer.params.get(5, 0) == 0:
        return {"weight": weight}
    return {"weight": weight, "bias": reader.raw(layer.name, out)}


def _count(layer: Layer, key: int) -> int:
    value = layer.params.get(key)
    if not isinstance(value, int) or value < 1:
        raise ValueError(
            f"layer {layer.name}: parameter {key} must be a positive integer, got {value!r}"
        )
    return value


class _Blobs:
    """A cursor over a `.bin` file that checks every size against what is left of the file."""

    def __init__(self, path: Path, data: bytes):
        self.path, self.data, self.at = path, data, 0

    def raw(self, name: str, count: int) -> np.ndarray:
        """`count` float32 values without a flag word."""
        return self._take(name, "<f4", count)

    def flagged(self, name: str, count: int) -> np.ndarray:
        """`count` values after a flag word that tells how they are stored."""
        flag = int(self._take(name, "<u4", 1)[0])
        if flag == _FLOAT32:
            return self._take(name, "<f4", count)
        if flag == _FLOAT16:
            return self._take(name, "<f2", count).astype(np.float32)
        raise ValueError(
            f"{self.path}: the weights of layer {name} have the flag word {flag:#010x}; only "
            f"float32 ({_FLOAT32:#010x}) and float16 ({_FLOAT16:#010x}) are supported"
        )

    def finish(self) -> None:
        if self.at != len(self.data):
            raise ValueError(
                f"{self.path}: {len(self.data)} bytes, but its graph accounts for {self.at}; "
                "the file belongs to another graph or is damaged"
            )

    def _take(self, name: str, dtype: str, count: int) -> np.ndarray:
        size = count * np.dtype(dtype).itemsize
        if self.at + size > len(self.data):
            raise ValueError(
                f"{self.path}: layer {name} needs {size} bytes at {self.at}, but the file ends at "
                f"{len(self.data)}; it is truncated or belongs to another graph"
            )
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += -(-size // 4) * 4  # blobs start at multiples of four bytes
        return values


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    return path
