"""The region of a photograph that in-painting works on: its box, and what comes back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dg2_jax.checks import ParameterError
from dg2_jax.pictures import masks, region
from dg2_jax.pictures.image_input import LANCZOS

side = st.integers(1, 60)


@st.composite
def marked(draw):
    """A mask with one to three marked pixels, at borders too."""
    height, width = draw(side), draw(side)
    mask = np.zeros((height, width), np.float32)
    for _ in range(draw(st.integers(1, 3))):
        mask[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = 0.5
    return mask


@given(mask=marked(), padding=st.integers(0, 20), aspect=st.tuples(side, side))
def test_a_box_holds_the_mask_and_its_padding_and_has_the_aspect(mask, padding, aspect):
    height, width = mask.shape
    box = region.around(mask, padding, aspect)
    assert 0 <= box.left < box.right <= width
    assert 0 <= box.top < box.bottom <= height
    rows, columns = np.nonzero(mask)
    assert box.left <= max(0, columns.min() - padding)
    assert box.right >= min(width, columns.max() + 1 + padding)
    assert box.top <= max(0, rows.min() - padding)
    assert box.bottom >= min(height, rows.max() + 1 + padding)
    (w, h), (a, b) = box.size, aspect
    # To a pixel as wide and as high as the aspect wants, or as the photograph is; and no more.
    assert w == width or w > (h - 1) * a / b - 1e-9
    assert h == height or h > (w - 1) * b / a - 1e-9
    needed_w, needed_h = np.ptp(columns) + 1 + 2 * padding, np.ptp(rows) + 1 + 2 * padding
    assert w <= max(needed_w, needed_h * a / b + 1)
    assert h <= max(needed_h, needed_w * b / a + 1)


@pytest.mark.parametrize(
    ("marked", "padding", "expected"),
    [
        ((slice(40, 60), slice(90, 110)), 0, (90, 40, 110, 60)),  # a square already
        ((slice(40, 60), slice(95, 105)), 0, (90, 40, 110, 60)),  # grown evenly to both sides
        ((slice(40, 60), slice(90, 110)), 5, (85, 35, 115, 65)),
        ((slice(0, 20), slice(0, 10)), 0, (0, 0, 20, 20)),  # in the corner: grown inwards
        ((slice(80, 100), slice(195, 200)), 0, (180, 80, 200, 100)),
        ((slice(0, 100), slice(100, 101)), 0, (50, 0, 150, 100)),
        ((slice(50, 51), slice(0, 200)), 0, (0, 0, 200, 100)),  # wider than the picture is high
    ],
)
def test_boxes_of_a_square_model(marked, padding, expected):
    mask = np.zeros((100, 200), np.float32)
    mask[marked] = 1.0
    assert region.around(mask, padding, (128, 128)) == expected


def test_the_padding_has_room_for_the_feather():
    """Where the region ended before the mask has faded, its border would show."""
    photograph = np.full((200, 200, 3), 50, np.uint8)
    mask = np.zeros((200, 200), np.float32)
    mask[100, 100] = 1.0
    part = region.load(photograph, mask, 32, 32, 0, 20.0)
    assert part.box == (80, 80, 121, 121)
    whole = part.paste(np.full((32, 32, 3), 250, np.uint8), 20.0, LANCZOS)
    faded = masks.feather(mask, 20.0)
    assert (whole[faded == 0] == 50).all()
    assert (whole[faded > 0.1] > 50).all()


def test_what_was_not_repainted_comes_back():
    """The way out and back of a smooth photograph, at the same scale, enlarged and reduced."""
    y, x = np.mgrid[:90, :120] / 120
    photograph = np.stack([x, y, 1 - x], -1)
    photograph = np.round(255 * photograph).astype(np.uint8)
    mask = np.zeros((90, 120), np.float32)
    mask[30:50, 40:60] = 1.0
    for size in ((20, 20), (64, 64), (16, 16), (48, 24)):
        part = region.load(photograph, mask, *size, 0, 0.0)
        assert part.pixels.shape[:2] == size[::-1]
        whole = part.paste(part.pixels, 0.0, LANCZOS)
        assert np.abs(whole.astype(int) - photograph).max() <= 4
        np.testing.assert_array_equal(whole[mask == 0], photograph[mask == 0])


def test_a_photograph_too_narrow_for_the_aspect_is_not_distorted():
    """A circle in a strip stays a circle: the model sees the strip with its edges continued."""
    y, x = np.mgrid[:30, :200]
    circle = np.hypot(x - 100, y - 15) < 12
    photograph = np.repeat(np.where(circle, 255, 0).astype(np.uint8)[:, :, None], 3, 2)
    mask = np.zeros((30, 200), np.float32)
    mask[10:20, 60:140] = 1.0
    part = region.load(photograph, mask, 80, 80, 0, 0.0)
    assert part.box == (60, 0, 140, 30)
    assert part.inner == (0, 25, 80, 55)
    rows, columns = np.nonzero(part.pixels[part.inner.slices][:, :, 0] > 128)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1
    assert not part.fitted_mask[:25].any()


def test_a_mask_is_as_large_as_its_photograph_whatever_size_it_was_painted_at():
    photograph = np.zeros((120, 80, 3), np.uint8)
    small = np.zeros((30, 20), np.float32)
    small[10:12, 5] = 1.0
    _, values = masks.load_whole(photograph, small)
    expected = np.zeros((120, 80), np.float32)
    expected[40:48, 20:24] = 1.0
    np.testing.assert_array_equal(values, expected)
    with pytest.raises(ParameterError, match="mask must have the shape of image, 80x120"):
        masks.load_whole(photograph, small.T)
    with pytest.raises(ParameterError, match="mask must mark something"):
        masks.load_whole(photograph, np.zeros_like(small))


def test_a_region_is_enlarged_by_the_given_network(monkeypatch):
    asked = []

    def enlarge(picture, model, scale):
        asked.append((picture.shape, model, scale))
        return picture.repeat(4, 0).repeat(4, 1)

    monkeypatch.setattr(region, "upscale", enlarge)
    photograph = np.zeros((300, 300, 3), np.uint8)
    mask = np.zeros((300, 300), np.float32)
    mask[100:196, 100:196] = 1.0
    part = region.load(photograph, mask, 32, 32, 0, 0.0)
    part.paste(np.zeros((32, 32, 3), np.uint8), 0.0, "x4plus")
    assert asked == [((32, 32, 3), "x4plus", 3.0)]
    small = region.load(photograph, mask, 128, 128, 0, 0.0)  # reduced, which no network does
    small.paste(np.zeros((128, 128, 3), np.uint8), 0.0, "x4plus")
    assert len(asked) == 1
