"""Masks: thin strokes survive, the feather is finite, and what is not painted is not touched."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dg2_jax.checks import ParameterError
from dg2_jax.pictures import image_input, masks


def noise(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def smooth(h, w):
    """A picture of smooth colours, between 60 and 190."""
    y, x = np.mgrid[:h, :w]
    channels = [np.sin(x / 17 + k) + np.cos(y / 13 + 2 * k) for k in range(3)]
    return np.round(125 + 32 * np.stack(channels, -1)).astype(np.uint8)


def disc(h, w, radius):
    y, x = np.mgrid[:h, :w]
    return (np.hypot(y - h / 2, x - w / 2) < radius).astype(np.float32)


# --- reading and fitting


def test_white_is_one_and_grey_is_between():
    grey = np.array([[0, 64], [128, 255]], np.uint8)
    expected = np.array([[0, 64 / 255], [128 / 255, 1]], np.float32)
    for source in (grey, Image.fromarray(grey), Image.fromarray(grey).convert("RGB"), expected):
        np.testing.assert_allclose(masks.load_mask(source, 2, 2), expected, atol=1e-6)


def test_bool_arrays_and_files(tmp_path):
    mask = np.eye(8, dtype=bool)
    loaded = masks.load_mask(mask, 8, 8)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, mask)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(masks.load_mask(tmp_path / "mask.png", 8, 8), mask)
    np.testing.assert_array_equal(masks.load_mask(str(tmp_path / "mask.png"), 8, 8), mask)


def test_the_alpha_channel_is_the_mask_where_it_is_used():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., 3] = [[0, 128], [129, 255]]
    np.testing.assert_array_equal(masks.load_mask(pixels, 2, 2), [[0, 0], [1, 1]])
    pixels[..., 3] = 255
    pixels[0, 0, :3] = 255
    np.testing.assert_array_equal(masks.load_mask(pixels, 2, 2), [[1, 0], [0, 0]])


@pytest.mark.parametrize("as_source", [np.asarray, Image.fromarray])
def test_zeros_and_ones_in_eight_bits_are_black_and_white(as_source):
    ones = np.eye(8, dtype=np.uint8)
    np.testing.assert_array_equal(masks.load_mask(as_source(ones), 8, 8), ones)


def test_a_picture_and_its_mask_are_fitted_together():
    picture = noise(60, 90)
    mask = np.zeros((60, 90), np.uint8)
    mask[20:40, 30:60] = 255
    pixels, fitted = masks.load_pair(picture, mask, 32, 32)
    np.testing.assert_array_equal(pixels, image_input.load_image(picture, 32, 32))
    np.testing.assert_array_equal(fitted, masks.load_mask(mask, 32, 32))
    # The same mask at twice the size marks the same part.
    doubled = np.kron(mask, np.ones((2, 2), np.uint8))
    np.testing.assert_array_equal(masks.load_pair(picture, doubled, 32, 32)[1], fitted)


def test_exif_turns_the_picture_before_its_shape_is_compared():
    picture = Image.fromarray(noise(40, 80))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned = io.BytesIO()
    picture.save(turned, "JPEG", exif=exif)
    standing = np.full((80, 40), 255, np.uint8)
    assert masks.load_pair(turned.getvalue(), standing, 32, 32)[1].all()
    with pytest.raises(ParameterError, match="mask must have the shape of image, 40x80 pixels"):
        masks.load_pair(turned.getvalue(), standing.T, 32, 32)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((64, 64), bool), "mask must have the shape of image, 96x64 pixels, got 64x64"),
        (np.zeros((64, 96), np.uint8), "mask must mark something"),
        (np.full((64, 96), 5, np.uint8), "mask must mark something"),
        (np.arange(96)[None].repeat(64, 0) < 10, "'pad' keeps all of it"),
    ],
)
def test_masks_that_do_not_fit_their_picture(mask, message):
    with pytest.raises(ParameterError, match=message) as error:
        masks.load_pair(noise(64, 96), mask, 32, 32)
    assert error.value.name == "mask"


def test_jpeg_noise_does_not_count():
    mask = disc(64, 64, 20)
    file = io.BytesIO()
    Image.fromarray((mask * 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    loaded = masks.load_mask(file.getvalue(), 64, 64)
    far = disc(64, 64, 36) == 0
    assert (loaded[far] == 0).all()
    assert (loaded[disc(64, 64, 8) == 1] == 1).all()


@settings(deadline=None, max_examples=50)
@given(
    height=st.integers(30, 200),
    width=st.integers(30, 200),
    row=st.floats(0, 1, exclude_max=True),
    value=st.floats(0.0625, 1, width=32),
)
def test_a_stroke_of_one_pixel_survives_the_way_to_the_latent(height, width, row, value):
    mask = np.zeros((height, width), np.float32)
    y = int(row * height)
    mask[y, :] = value
    fitted = masks.load_mask(mask, 32, 32, "pad")
    np.testing.assert_allclose(fitted.max(), value)
    _, (left, top, right, bottom) = image_input.fit((width, height), (32, 32), "pad")
    where = top + int((y + 0.5) / height * (bottom - top))
    assert (fitted[where, left:right] == np.float32(value)).all()
    np.testing.assert_allclose(masks.latent_mask(fitted, 8).max(), value)


def test_a_mask_of_latent_cells_stays_one():
    cells = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    fitted = masks.load_mask(cells, 128, 128)
    np.testing.assert_array_equal(fitted, cells.repeat(8, 0).repeat(8, 1))
    np.testing.assert_array_equal(masks.latent_mask(fitted, 8, dilate=0), cells)


@pytest.mark.parametrize("position", [(0.5, 0.5), (0.0, 0.3), (1.0, 0.4)])
@pytest.mark.parametrize("resize_mode", ["crop", "pad"])
@pytest.mark.parametrize("size", [(90, 60), (60, 90), (200, 33), (64, 64)])
def test_goes_the_way_of_its_image(size, resize_mode, position):
    width, height = size
    mask = np.zeros((height, width), np.float32)
    mask[height // 3 : height // 2, width // 3 : width // 2] = 1
    image = (mask[..., None] * np.full(3, 255)).astype(np.uint8)
    fitted = masks.load_mask(mask, 64, 64, resize_mode, position)
    seen = image_input.load_image(image, 64, 64, resize_mode, crop_position=position)[..., 0]
    assert (fitted[seen > 128] == 1).all()
    grown = masks.latent_mask(fitted, 1, dilate=2)  # of Lanczos' kernel
    assert (seen[grown == 0] < 40).all()


def test_pad_leaves_the_rest_alone():
    fitted = masks.load_mask(np.ones((10, 20), np.float32), 20, 20, "pad")
    np.testing.assert_array_equal(fitted[5:15], 1)
    np.testing.assert_array_equal(fitted[:5], 0)
    np.testing.assert_array_equal(fitted[15:], 0)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.full((4, 4), 1.5), "mask must be from 0 to 1"),
        (np.full((4, 4), np.nan), "mask must be from 0 to 1"),
        (np.zeros((4, 4), np.int64), "mask as an array must be bool, float or uint8"),
        (np.zeros((4, 4, 2)), "mask as an array must be"),
        (np.zeros((0, 4)), "mask as an array must be"),
        (Image.fromarray(np.full((2, 2), np.nan, np.float32)), "mask is damaged"),
        (b"no picture", "mask must be a PNG, JPEG or WebP"),
    ],
)
def test_bad_masks(source, message):
    with pytest.raises(ParameterError, match=message) as caught:
        masks.load_mask(source, 8, 8)
    assert caught.value.name == "mask"


def test_a_missing_file():
    with pytest.raises(FileNotFoundError, match="mask not found"):
        masks.load_mask("nowhere.png", 8, 8)


# --- latents


@settings(deadline=None, max_examples=30)
@given(y=st.integers(0, 31), x=st.integers(0, 31), value=st.floats(0.0625, 1, width=32))
def test_one_pixel_marks_its_cell_and_the_neighbours(y, x, value):
    mask = np.zeros((32, 32), np.float32)
    mask[y, x] = value
    expected = np.zeros((8, 8), np.float32)
    i, j = y // 4, x // 4
    expected[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2] = value
    np.testing.assert_array_equal(masks.latent_mask(mask, 4), expected)


def test_sides_must_be_whole_cells():
    with pytest.raises(ValueError, match="mask must have sides divisible by 8"):
        masks.latent_mask(np.zeros((20, 16), np.float32), 8)


# --- feather


@pytest.mark.parametrize("radius", [0.0, 0.5, 1.0, 2.5, 4.0, 9.0, 64.0])
def test_feather_covers_the_mask_and_ends_at_its_radius(radius):
    mask = np.zeros((41, 41), np.float32)
    mask[20, 20] = 0.3
    faded = masks.feather(mask, radius)
    y, x = np.mgrid[:41, :41]
    distance = np.hypot(y - 20, x - 20)
    assert faded[20, 20] == 1
    outside = distance > 0
    assert (faded[outside & (distance >= radius)] == 0).all()
    between = outside & (distance < radius)
    assert (faded[between] > 0).all()
    order = np.argsort(distance.ravel())
    assert (np.diff(faded.ravel()[order]) <= 1e-6).all()


def test_feather_of_nothing_and_of_everything():
    zeros = np.zeros((8, 8), np.float32)
    np.testing.assert_array_equal(masks.feather(zeros, 3.0), zeros)
    np.testing.assert_array_equal(masks.feather(zeros + 1, 3.0), zeros + 1)


# --- paste-back


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**16),
    radius=st.floats(0, 30),
    feather=st.floats(0, 20),
    match=st.booleans(),
)
def test_outside_the_feather_nothing_changes(seed, radius, feather, match):
    generated, original = noise(48, 48, seed), noise(48, 48, seed + 1)
    mask = disc(48, 48, radius)
    pasted = masks.paste_back(generated, original, mask, feather, match)
    outside = masks.feather(mask, feather) == 0
    np.testing.assert_array_equal(pasted[outside], original[outside])
    if not match:
        np.testing.assert_array_equal(pasted[mask > 0], generated[mask > 0])


@pytest.mark.parametrize("gain", [0.85, 1.0, 1.2])
@pytest.mark.parametrize("offset", [-20, 0, 15])
def test_a_change_of_colours_is_undone(gain, offset):
    original = smooth(96, 96)
    shifted = (original.astype(float) - 125) / gain + 125 - offset
    generated = np.round(shifted).astype(np.uint8)
    pasted = masks.paste_back(generated, original, disc(96, 96, 30))
    assert np.abs(pasted.astype(int) - original).max() <= 2


def test_unrelated_pictures_keep_their_contrast():
    generated = np.clip(noise(96, 96) // 2 + 80, 0, 255).astype(np.uint8)
    original = noise(96, 96, 1) // 2 + 64
    pasted = masks.paste_back(generated, original, disc(96, 96, 30))
    inside = disc(96, 96, 30) > 0
    ratio = pasted[inside].std() / generated[inside].std()
    assert 0.97 < ratio < 1.03
    assert -22 < pasted[inside].mean() - generated[inside].mean() < -10


def test_the_match_is_bounded_and_stands_flat_colours():
    black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    pasted = masks.paste_back(black, white, disc(32, 32, 8), 0.0)
    inside = disc(32, 32, 8) > 0
    np.testing.assert_array_equal(pasted[inside], 32)
    np.testing.assert_array_equal(masks.paste_back(black, black, disc(32, 32, 8)), black)


def test_without_a_ring_the_picture_is_as_generated():
    generated, original = noise(16, 16), noise(16, 16, 1)
    everything = np.ones((16, 16), np.float32)
    np.testing.assert_array_equal(masks.paste_back(generated, original, everything), generated)
    np.testing.assert_array_equal(masks.paste_back(generated, original, 0 * everything), original)


def test_the_seam_of_two_brightnesses_disappears():
    original = smooth(96, 96)
    generated = np.clip(original.astype(int) + 25, 0, 255).astype(np.uint8)
    mask = disc(96, 96, 30)

    def seam(picture):
        steps = np.abs(np.diff(picture.astype(int), axis=1)).mean(-1)
        return steps[np.abs(np.diff(mask, axis=1)) > 0].mean()

    hard = masks.paste_back(generated, original, mask, 0.0, colour_match=False)
    assert seam(hard) > 5 * seam(original)
    assert seam(masks.paste_back(generated, original, mask)) < 1.25 * seam(original)


# --- outpainting


@pytest.mark.parametrize(
    "border", [(32, 0, 0, 0), (8, 16, 24, 32), (0, 40, 0, 40), (56, 56, 56, 56)]
)
def test_canvas_holds_the_fitted_picture_and_marks_the_rest(border):
    left, top, right, bottom = border
    canvas, mask = masks.outpaint_canvas(noise(100, 150), border, 128, 128)
    inside = np.s_[top : 128 - bottom, left : 128 - right]
    fitted = image_input.load_image(noise(100, 150), 128 - left - right, 128 - top - bottom)
    np.testing.assert_array_equal(canvas[inside], fitted)
    expected = np.ones((128, 128), np.float32)
    expected[inside] = 0
    np.testing.assert_array_equal(mask, expected)


def test_canvas_continues_smoothly_and_loses_detail():
    canvas, _ = masks.outpaint_canvas(smooth(128, 128), (0, 0, 64, 0), 128, 128)
    steps = np.abs(np.diff(canvas.astype(float), axis=1)).mean((0, 2))
    assert steps[63] <= 1.25 * steps[32:63].max()  # between the last old and the first new column
    detailed, _ = masks.outpaint_canvas(noise(128, 128), (0, 0, 64, 0), 128, 128)
    assert detailed[:, -40:].std() < 0.2 * detailed[:, :64].std()


@pytest.mark.parametrize("border", [(0, 0, 0, 0), (64, 0, 60, 0), (-1, 0, 8, 0), (0, 128, 0, 0)])
def test_bad_borders(border):
    with pytest.raises(ValueError, match="outpaint must add pixels and leave at least 16"):
        masks.outpaint_canvas(noise(32, 32), border, 128, 128)
