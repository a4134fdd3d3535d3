"""Upscaling: another runner's results on the same files, tiling, factors, errors."""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.rrdbnet import RRDBNet
from dg2_jax.pictures.upscaling import tile_spans, upscale

GOLDEN = Path(__file__).parents[1] / "golden"


def recorded(model):
    """A photograph's crop and what the runner ncnn makes of it (scripts/compare_ncnn.py)."""
    with np.load(GOLDEN / f"ncnn_{model}.npz") as file:
        return file["image"], file["output"].astype(np.float32)


def texture(height, width):
    """Smooth colours with edges, from noise of a coarser grid."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize("model", ["animevideov3", "x4plus", "x4plus-anime"])
def test_same_as_ncnn(model):
    image, expected = recorded(model)
    out = upscale(image, model)
    assert out.shape == (96, 96, 3)
    # Rounding to uint8 alone leaves 58.9 dB.
    assert psnr(out, 255 * expected) > 58
    assert np.abs(out - 255 * expected).max() < 1


def test_tiles_that_see_far_enough_change_nothing():
    """18 convolutions see 18 pixels each way, so an overlap of 18 is exact but for rounding."""
    image = texture(80, 100)
    whole = upscale(image, "animevideov3")
    seen = []
    tiled = upscale(
        image, "animevideov3", tile=28, overlap=18, progress=lambda *args: seen.append(args)
    )
    assert seen == [(i + 1, 6) for i in range(6)]
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    blind = upscale(image, "animevideov3", tile=28, overlap=0)
    assert np.abs(whole.astype(int) - blind).max() > 8


def test_tiles_of_the_deep_network_agree():
    image = np.tile(recorded("x4plus-anime")[0], (2, 6, 1))
    whole = upscale(image, "x4plus-anime")
    tiled = upscale(image, "x4plus-anime", tile=64, overlap=32)
    assert psnr(whole, tiled) > 50


@pytest.mark.parametrize("length", [1, 5, 31, 64, 65, 100, 257, 1000])
@pytest.mark.parametrize(("tile", "overlap"), [(16, 0), (16, 20), (30, 3), (64, 32)])
def test_spans_cover_the_side_once(length, tile, overlap):
    spans = tile_spans(length, tile, overlap)
    assert spans[0][2] == 0
    assert spans[-1][3] == length
    assert all(a[3] == b[2] for a, b in itertools.pairwise(spans))
    assert len({end - start for start, end, _, _ in spans}) == 1
    for start, end, first, last in spans:
        assert 0 <= start <= first < last <= end <= length
        assert end - start <= tile + 2 * overlap
        assert first == 0 or first - start >= overlap
        assert last == length or end - last >= overlap


@pytest.mark.parametrize(("scale", "size"), [(2, (48, 48)), (3, (72, 72)), (2.5, (60, 60))])
def test_other_factors_are_a_lanczos_resize(scale, size):
    image, output = recorded("animevideov3")
    out = upscale(image, "animevideov3", scale)
    big = Image.fromarray(np.round(255 * output).astype(np.uint8))
    expected = np.asarray(big.resize(size[::-1], Image.Resampling.LANCZOS))
    assert out.shape == (*size, 3)
    assert np.abs(out.astype(int) - expected).max() <= 2


def test_a_batch_is_its_images():
    images = texture(48, 24).reshape(2, 24, 24, 3)
    out = upscale(images, "animevideov3")
    assert out.shape == (2, 96, 96, 3)
    np.testing.assert_array_equal(out[1], upscale(images[1], "animevideov3"))


def test_unshuffling_networks_take_any_size_and_tile():
    shapes = abstract(lambda rngs: RRDBNet(1, 2, features=8, growth=4, rngs=rngs))
    graphdef, params = nnx.split(shapes)
    draw = np.random.default_rng(0).normal
    params = jax.tree.map(lambda p: jnp.asarray(draw(0, 0.1, p.shape), p.dtype), params)
    network = nnx.merge(graphdef, params)
    image = texture(40, 84)[:37, :81]
    whole = upscale(image, network, 2)
    assert whole.shape == (74, 162, 3)
    assert upscale(image[:1, :1], network, 2).shape == (2, 2, 3)
    # 21 convolutions at half the resolution (and a few beyond) see less than 52 pixels.
    tiled = upscale(image, network, 2, tile=17, overlap=27)
    assert np.std(whole) > 10
    assert np.abs(whole.astype(int) - tiled).max() <= 1


IMAGE = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": IMAGE.astype(np.float32)}, "images must be uint8"),
        ({"images": IMAGE[..., :1]}, "images must have the shape"),
        ({"images": IMAGE[0]}, "images must have the shape"),
        ({"images": IMAGE[:0]}, "images must have the shape"),
        ({"scale": 0.5}, "scale must be a number from 1 to 8"),
        ({"scale": float("nan")}, "scale must be a number from 1 to 8"),
        ({"tile": 8}, "tile must be a whole number, at least 16"),
        ({"overlap": -1}, "overlap must be a whole number, at least 0"),
        ({"model": "x5plus"}, "model must be one of x4plus"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        upscale(**({"images": IMAGE, "model": "animevideov3"} | arguments))
