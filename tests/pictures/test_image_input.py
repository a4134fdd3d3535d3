"""Pictures from outside: every mode and shape, undistorted, or one clear error."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dg2_jax.pictures import image_input
from dg2_jax.pictures.image_input import fit, load_image


def encoded(picture, file_format="PNG", **options):
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def smooth(h, w):
    y, x = np.mgrid[:h, :w]
    channels = [np.sin(x / 9 + k) + np.cos(y / 7 + 2 * k) for k in range(3)]
    return np.round(127 + 50 * np.stack(channels, -1)).astype(np.uint8)


def test_the_right_size_is_passed_through():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    for source in (pixels, Image.fromarray(pixels), encoded(Image.fromarray(pixels))):
        for mode in image_input.RESIZE_MODES:
            np.testing.assert_array_equal(load_image(source, 24, 16, mode), pixels)


@pytest.mark.parametrize(("file_format", "options"), [("JPEG", {"quality": 95}), ("WEBP", {})])
def test_formats_are_told_by_content(tmp_path, file_format, options):
    pixels = smooth(64, 64)
    path = tmp_path / "picture.png"  # a wrong name
    path.write_bytes(encoded(Image.fromarray(pixels), file_format, **options))
    for source in (path, str(path), path.read_bytes()):
        error = load_image(source, 64, 64).astype(int) - pixels
        assert np.abs(error).mean() < 4


# --- shapes


@settings(deadline=None)
@given(
    source=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    target=st.tuples(st.integers(1, 600), st.integers(1, 600)),
    mode=st.sampled_from(image_input.RESIZE_MODES),
)
def test_fit_never_distorts_and_stays_inside(source, target, mode):
    (left, top, right, bottom), inner = fit(source, target, mode)
    assert 0 <= left < right <= source[0] + 1e-9
    assert 0 <= top < bottom <= source[1] + 1e-9
    assert 0 <= inner[0] < inner[2] <= target[0]
    assert 0 <= inner[1] < inner[3] <= target[1]
    width, height = inner[2] - inner[0], inner[3] - inner[1]
    scale = max if mode == "crop" else min
    scale = scale(target[0] / source[0], target[1] / source[1])
    if mode == "crop":
        assert (width, height) == target
        np.testing.assert_allclose((right - left) * scale, width)
        np.testing.assert_allclose((bottom - top) * scale, height)
        np.testing.assert_allclose((left + right, top + bottom), source)  # the middle
    else:
        assert (left, top, right, bottom) == (0, 0, *source)
        assert abs(width - source[0] * scale) <= 0.5 or width == 1
        assert abs(height - source[1] * scale) <= 0.5 or height == 1
        assert abs(inner[0] + inner[2] - target[0]) <= 1
        assert abs(inner[1] + inner[3] - target[1]) <= 1


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (90, 60)])
@pytest.mark.parametrize("mode", ["crop", "pad"])
def test_a_circle_stays_a_circle(size, mode):
    width, height = size
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(y - height / 2 + 0.5, x - width / 2 + 0.5) < 0.3 * min(size)
    seen = load_image((inside * 255).astype(np.uint8), 128, 128, mode)[..., 0] > 127
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert abs((rows[-1] - rows[0]) - (columns[-1] - columns[0])) <= 1
    assert abs(rows.mean() - 63.5) <= 0.5
    assert abs(columns.mean() - 63.5) <= 0.5


def test_pad_repeats_the_outermost_pixels():
    pixels = smooth(32, 64)
    padded = load_image(pixels, 64, 64, "pad")
    np.testing.assert_array_equal(padded[16:48], pixels)
    np.testing.assert_array_equal(padded[:16], np.broadcast_to(pixels[0], (16, 64, 3)))
    np.testing.assert_array_equal(padded[48:], np.broadcast_to(pixels[-1], (16, 64, 3)))


def test_making_smaller_averages_and_keeps_the_mean():
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    small = load_image(stripes, 32, 32).astype(int)
    assert np.abs(small - 127.5)[:, 1:-1].max() <= 2  # picking pixels would give 0 or 255


def test_extreme_shapes():
    for shape in ((1, 3000), (3000, 1), (1, 1)):
        for mode in image_input.RESIZE_MODES:
            seen = load_image(np.full(shape, 77, np.uint8), 32, 32, mode)
            np.testing.assert_array_equal(seen, 77)


# --- modes


def test_every_mode_shows_the_same_grey():
    half = np.full((8, 8), 128, np.uint8)
    rgb = Image.fromarray(np.stack([half] * 3, -1))
    sixteen = half.astype(np.uint16) * 257
    sources = {
        **{mode: rgb.convert(mode) for mode in ("L", "RGB", "YCbCr", "HSV", "CMYK", "LA")},
        **{mode: rgb.convert(mode) for mode in ("RGBA", "RGBX", "I", "F")},
        "I;16": Image.fromarray(sixteen),
        "La": rgb.convert("LA").convert("La"),
        "RGBa": rgb.convert("RGBA").convert("RGBa"),
        "P": rgb.quantize(4),
        "PA": rgb.quantize(4).convert("PA"),
        "I of 16 bits": Image.fromarray(sixteen.astype(np.int32)),
        "F of 0-1": Image.fromarray((half / 255).astype(np.float32)),
        "array (h, w)": half,
        "array (h, w, 1)": half[..., None],
        "array (h, w, 4)": np.dstack([half] * 3 + [np.full((8, 8), 255, np.uint8)]),
    }
    for mode, source in sources.items():
        seen = load_image(source, 8, 8)
        assert seen.dtype == np.uint8
        assert np.abs(seen.astype(int) - 128).max() <= 1, mode


def test_one_bit_and_sixteen_bit_files():
    checks = np.indices((8, 8)).sum(0) % 2 == 0
    seen = load_image(encoded(Image.fromarray(checks)), 8, 8)
    np.testing.assert_array_equal(seen, np.stack([checks * 255] * 3, -1))
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    seen = load_image(encoded(Image.fromarray(ramp)), 8, 8)
    np.testing.assert_array_equal(seen[..., 0], np.round(ramp / 257))


def test_a_cmyk_jpeg_keeps_its_colours():
    red = Image.new("RGB", (16, 16), (200, 40, 40)).convert("CMYK")
    seen = load_image(encoded(red, "JPEG", quality=95), 16, 16)
    assert np.abs(seen.astype(int) - (200, 40, 40)).max() <= 6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_lies_over_white(mode):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255
    picture = Image.fromarray(pixels)
    if mode == "P":
        picture = Image.fromarray(np.repeat([[0], [0], [1], [1]], 4, 1).astype(np.uint8), "P")
        picture.putpalette([0, 0, 0, 90, 90, 90])
        picture = encoded(picture, transparency=1)
    elif mode == "PA":
        alpha = picture.getchannel("A")
        picture = picture.convert("RGB").convert("P").convert("PA")
        picture.putalpha(alpha)
    else:
        picture = picture.convert(mode)
    seen = load_image(picture, 4, 4)
    np.testing.assert_array_equal(seen[:2], 0)
    np.testing.assert_array_equal(seen[2:], 255)


def test_half_transparent_is_half_white():
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 3] = 51
    np.testing.assert_array_equal(load_image(pixels, 4, 4), 204)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(file_format):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(
        frames[0], file_format, save_all=True, append_images=frames[1:], duration=100, **options
    )
    np.testing.assert_array_equal(load_image(data, 16, 16)[0, 0], (255, 0, 0))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.swapaxes(0, 1)),
        (6, lambda x: np.rot90(x, -1)),
        (7, lambda x: np.rot90(x, 2).swapaxes(0, 1)),
        (8, lambda x: np.rot90(x)),
    ],
)
def test_exif_orientation(file_format, orientation, upright):
    pixels = smooth(24, 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(pixels), file_format, exif=exif.tobytes())
    expected = upright(pixels)
    seen = load_image(data, expected.shape[1], expected.shape[0])
    assert np.abs(seen.astype(int) - expected).mean() < 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_no_reason_to_refuse():
    data = encoded(Image.fromarray(smooth(8, 8)), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(load_image(data, 8, 8), smooth(8, 8))


# --- what is refused


def png_of_size(width, height):
    """The header of a PNG that claims a size, and no pixels."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.mark.parametrize("size", [(8193, 8192), (10_000, 10_000), (2**20, 2**20), (2**30, 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_before_decoding(size):
    with pytest.raises(ValueError, match=r"image must have .*67108864 pixels"):
        load_image(png_of_size(*size), 32, 32)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files(file_format, share):
    data = encoded(Image.effect_noise((64, 64), 80), file_format)
    with pytest.raises(ValueError, match=r"^image "):
        load_image(data[: int(len(data) * share)], 32, 32)


@settings(deadline=None, max_examples=60)
@given(
    file_format=st.sampled_from(image_input.FORMATS),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4))
    ),
)
def test_damage_gives_a_picture_or_the_one_error(file_format, changes):
    data = bytearray(encoded(Image.fromarray(smooth(16, 16)), file_format))
    for where, content in changes:
        start = int(where * len(data))
        data[start : start + len(content)] = content
    message = "image "
    try:
        assert load_image(bytes(data), 8, 8).shape == (8, 8, 3)
    except ValueError as error:
        message = str(error)
    assert message.startswith("image ")


@pytest.mark.parametrize("file_format", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_are_refused(file_format):
    with pytest.raises(ValueError, match="image must be a PNG, JPEG or WebP picture"):
        load_image(encoded(Image.new("RGB", (8, 8)), file_format), 8, 8)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "image must be a PNG"),
        (b"<svg/>", "image must be a PNG"),
        (np.zeros((4, 4, 3)), "image as an array must be uint8"),
        (np.zeros((4, 4, 2), np.uint8), "image as an array must be uint8"),
        (np.zeros((0, 4, 3), np.uint8), "image as an array must be uint8"),
        (np.zeros(4, np.uint8), "image as an array must be uint8"),
        (Image.fromarray(np.full((2, 2), np.nan, np.float32)), "image is damaged"),
    ],
)
def test_what_is_no_picture(source, message):
    with pytest.raises(ValueError, match=message):
        load_image(source, 8, 8)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="image not found"):
        load_image(tmp_path / "none.png", 8, 8)
    with pytest.raises(ValueError, match="image cannot be read"):
        load_image(tmp_path, 8, 8)


def test_unknown_resize_mode():
    with pytest.raises(ValueError, match="resize_mode must be one of crop, pad; 'stretch'"):
        load_image(np.zeros((4, 4, 3), np.uint8), 8, 8, "stretch")


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (50, 33)])
def test_the_part_that_is_kept_moves_from_one_end_to_the_other(size):
    """Only along the side that is too long; at 0 and 1 the ends are kept to the pixel."""
    width, height = size
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    side = min(size)
    ends = [(0.0, 0.0), (1.0, 1.0)]
    first, last = (load_image(picture, side, side, crop_position=end) for end in ends)
    np.testing.assert_array_equal(first, picture[:side, :side])
    np.testing.assert_array_equal(last, picture[-side:, -side:])
    middle = load_image(picture, side, side)
    np.testing.assert_array_equal(middle, load_image(picture, side, side, crop_position=(0.5, 0.5)))
    across = load_image(picture, side, side, crop_position=(0.0, 0.5))
    np.testing.assert_array_equal(across, first if width > height else middle)
    whole = load_image(picture, side, side, "pad")
    padded = load_image(picture, side, side, "pad", crop_position=(1.0, 1.0))
    np.testing.assert_array_equal(padded, whole)


def test_a_crop_never_reaches_beyond_the_picture():
    for width, height in np.random.default_rng(0).integers(1, 400, (300, 2)).tolist():
        for x in (0.0, 1 / 3, 1.0):
            left, top, right, bottom = fit((width, height), (160, 96), "crop", (x, x)).box
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
