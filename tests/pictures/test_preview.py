"""Previews: the fit finds the map that made the colours; animations read back as written."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dg2_jax.pictures import preview
from dg2_jax.pictures.preview import LatentToRGB


def random_map(channels, seed=0):
    rng = np.random.default_rng(seed)
    return LatentToRGB(rng.normal(size=(channels, 3)) * 0.06, rng.normal(size=3) * 0.1)


def test_the_fit_finds_the_map():
    """Pictures whose cells have a map's colours on average, with detail inside the cells."""
    rng = np.random.default_rng(1)
    latents = rng.normal(size=(16, 8, 8, 5)).astype(np.float32)
    truth = random_map(5)
    levels = (latents @ truth.weight + truth.bias + 1) * 127.5
    detail = rng.uniform(-20, 20, (16, 8, 4, 8, 4, 3))
    detail -= detail.mean((2, 4), keepdims=True)
    images = levels[:, :, None, :, None] + detail
    assert 0 < images.min() < images.max() < 255
    images = np.round(images).astype(np.uint8).reshape(16, 32, 32, 3)
    actual = preview.fit_latent_to_rgb(latents, images)
    np.testing.assert_allclose(actual.weight, truth.weight, atol=5e-4)
    np.testing.assert_allclose(actual.bias, truth.bias, atol=5e-4)
    shown = np.asarray(preview.apply(jnp.asarray(latents), actual))
    assert shown.dtype == np.uint8
    assert np.abs(shown - levels).max() < 1.5


def test_the_fit_is_the_least_squares_one():
    """The residuals are orthogonal to every channel and to 1."""
    rng = np.random.default_rng(2)
    latents = rng.normal(size=(4, 8, 8, 3)).astype(np.float32)
    images = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    actual = preview.fit_latent_to_rgb(latents, images)
    cells = images.reshape(4, 8, 2, 8, 2, 3).mean((2, 4)) / 127.5 - 1
    residual = (latents @ actual.weight + actual.bias - cells).reshape(-1, 3)
    np.testing.assert_allclose(latents.reshape(-1, 3).T @ residual, 0, atol=1e-9)
    np.testing.assert_allclose(residual.sum(0), 0, atol=1e-9)


def test_apply_clips_and_compiles():
    linear = LatentToRGB(np.eye(3), np.zeros(3))
    latents = jnp.asarray([-3.0, -1.0, 0.0, 1.0, 3.0])[:, None, None, None] * jnp.ones((5, 2, 2, 3))
    shown = jax.jit(preview.apply)(latents, linear)
    np.testing.assert_array_equal(shown[:, 0, 0, 0], [0, 0, 128, 255, 255])


def test_published_factors():
    """Channels 0 and 1 make it brighter, channel 3 darker and yellow."""
    unit = jnp.eye(4, dtype=jnp.float32)[:, None, None, :]
    shown = np.asarray(preview.apply(unit, preview.STABLE_DIFFUSION))[:, 0, 0].astype(int)
    np.testing.assert_array_equal(
        shown[0], np.round((np.array([0.3512, 0.2297, 0.3227]) + 1) * 127.5)
    )
    assert (shown[:2] > 128).all()
    assert (shown[3] < 128).all()
    assert shown[3].argmin() == 2


def test_through_json():
    linear = random_map(8)
    read = LatentToRGB.from_dict(json.loads(json.dumps(linear.to_dict())))
    np.testing.assert_allclose(read.weight, linear.weight, atol=1e-6)
    np.testing.assert_allclose(read.bias, linear.bias, atol=1e-6)


def test_the_map_of_a_model():
    linear = random_map(8)
    read = preview.of_model({"preview": linear.to_dict()}, 8)
    np.testing.assert_allclose(read.weight, linear.weight, atol=1e-6)
    assert preview.of_model({}, 4) is preview.STABLE_DIFFUSION
    assert preview.of_model({}, 8).weight.shape == (8, 3)
    with pytest.raises(ValueError, match="preview must have weights for 4 channels, got 8"):
        preview.of_model({"preview": linear.to_dict()}, 4)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"weight": [[1.0, 2.0]], "bias": [0.0, 0.0, 0.0]},
        {"weight": [[1.0, 2.0, 3.0]], "bias": [0.0]},
        {"weight": [["a", "b", "c"]], "bias": [0.0, 0.0, 0.0]},
        {"weight": [[1.0, 2.0, float("nan")]], "bias": [0.0, 0.0, 0.0]},
    ],
)
def test_damaged_maps(values):
    with pytest.raises(ValueError, match="preview must hold numbers"):
        LatentToRGB.from_dict(values)


def test_what_cannot_be_fitted():
    latents = np.zeros((2, 4, 4, 3), np.float32)
    for shape in ((3, 8, 8, 3), (2, 9, 8, 3)):
        with pytest.raises(ValueError, match="images must be 2 with sides that are multiples"):
            preview.fit_latent_to_rgb(latents, np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="latents must have more than 3 cells"):
        preview.fit_latent_to_rgb(latents[:1, :1, :3], np.zeros((1, 8, 6, 3), np.uint8))


# --- animations


def frames(count=4):
    return [np.full((12, 16, 3), (40 * i, 200 - 40 * i, 77), np.uint8) for i in range(count)]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".GIF"])
def test_an_animation_reads_back(tmp_path, suffix):
    path = preview.save_animation(frames(), tmp_path / "new" / f"run{suffix}", fps=10.0)
    with Image.open(path) as animation:
        assert animation.n_frames == 4
        assert animation.info["loop"] == 0
        durations = []
        for i, frame in enumerate(frames()):
            animation.seek(i)
            animation.load()
            np.testing.assert_array_equal(np.asarray(animation.convert("RGB")), frame)
            durations.append(animation.info["duration"])
    assert durations == [100, 100, 100, 1500]


def test_one_frame_is_enough(tmp_path):
    with Image.open(preview.save_animation(frames(1), tmp_path / "one.gif")) as animation:
        assert animation.size == (16, 12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((frames(), "run.mp4"), r"animation must end in .gif or .webp, got 'run.mp4'"),
        ((frames(), "run"), "animation must end in"),
        (([], "run.gif"), "frames must be one or more"),
        (([*frames(1), np.zeros((4, 4, 3), np.uint8)], "run.gif"), "frames must be one or more"),
        (([np.zeros((4, 4), np.uint8)], "run.gif"), "frames must be one or more"),
        ((frames(), "run.gif", 0.0), "fps must be above 0 and at most 50"),
        ((frames(), "run.gif", 51.0), "fps must be above 0"),
    ],
)
def test_animations_that_cannot_be(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        preview.save_animation(*arguments)
    assert list(tmp_path.iterdir()) == []
