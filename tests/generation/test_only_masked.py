"""In-painting of the region around a mask: the photograph comes back at its own size."""

import io

import numpy as np
import pytest
from PIL import Image

from dg2_jax.checks import ParameterError
from dg2_jax.pictures import images, masks
from tests.generation.conftest import SIZE

STEPS = {"num_inference_steps": 3, "strength": 1.0, "inpaint_area": "only_masked"}


def photograph(height, width):
    """Colour slopes with texture, so that a wrong pixel is seen."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(0)
    pixels = np.stack([200 * x / width, 200 * y / height, 200 - 200 * x / width], -1)
    return (pixels + rng.integers(0, 50, pixels.shape)).astype(np.uint8)


def marked(height, width, *parts):
    mask = np.zeros((height, width), np.float32)
    for part in parts:
        mask[part] = 1.0
    return mask


CASES = {
    "landscape": ((150, 250), [np.s_[60:90, 100:150]]),
    "portrait": ((250, 90), [np.s_[100:130, 20:60]]),
    "in a corner": ((150, 250), [np.s_[130:, 230:]]),
    "several parts": ((150, 250), [np.s_[10:20, 10:20], np.s_[120:140, 200:240], np.s_[70, 90]]),
    "all of it": ((60, 70), [np.s_[:, :]]),
    "a strip": ((40, 400), [np.s_[10:20, 50:350]]),
    "smaller than the model": ((20, 24), [np.s_[5:12, 5:12]]),
    "one pixel": ((150, 250), [np.s_[0, 249]]),
}


@pytest.mark.parametrize("name", CASES)
def test_outside_the_mask_the_photograph_is_untouched(pipe, name):
    (height, width), parts = CASES[name]
    source, mask = photograph(height, width), marked(height, width, *parts)
    result = pipe(
        "a lake",
        image=source,
        mask=mask,
        num_images=2,
        mask_feather=3.0,
        inpaint_padding=8,
        **STEPS,
    )
    assert result.images.shape == (2, height, width, 3)
    assert result.latents.shape == (2, 4, 4, 4)
    kept = masks.feather(mask, 3.0) == 0
    for picture in result.images:
        np.testing.assert_array_equal(picture[kept], source[kept])
        assert np.abs(picture.astype(int) - source)[mask > 0].max() > 10


def test_the_same_region_cut_out_by_hand_is_the_same_picture(pipe):
    """At the model's own scale and aspect nothing is resized."""
    source = photograph(100, 120)
    mask = marked(100, 120, np.s_[40:48, 50:58])
    options = {"num_inference_steps": 3, "strength": 1.0, "mask_feather": 4.0}
    region = np.s_[28:60, 38:70]
    cut = pipe("a lake", image=source[region], mask=mask[region], **options)
    whole = pipe(
        "a lake", image=source, mask=mask, inpaint_area="only_masked", inpaint_padding=12, **options
    )
    np.testing.assert_array_equal(whole.images[0][region], cut.images[0])
    np.testing.assert_array_equal(whole.latents, cut.latents)


def test_every_task_that_takes_a_mask_takes_the_region(pipe):
    source, mask = photograph(90, 70), marked(90, 70, np.s_[30:50, 20:40])
    edit = {"image": source, "mask": mask, **STEPS}
    pairs = [("a lake", "identity"), ("a volcano", "rot180")]
    for given in (
        {"prompt": "a lake", "strength": 0.6},
        {"prompt": "a lake", "inversion": "ddim", "strength": 0.6},
        {"anagram": pairs, "strength": 0.8},
        {"prompt": "a lake", "strength": 0.0},
        {"prompt": "a lake", "width": 48, "height": 32},
        {"prompt": "a lake", "solver": "ddim", "num_resamples": 2},
    ):
        result = pipe(**{**edit, **given})
        assert result.images.shape == (1, 90, 70, 3)
        kept = masks.feather(mask, 4.0) == 0
        np.testing.assert_array_equal(result.images[0][kept], source[kept])


def test_files_of_cameras_and_transparent_ones(pipe, tmp_path):
    """Turned as EXIF says, as the mask was painted; transparency over white."""
    source = photograph(120, 80)
    mask = marked(120, 80, np.s_[40:60, 20:50])
    kept = masks.feather(mask, 4.0) == 0
    turned = Image.fromarray(np.rot90(source))  # as the camera stored it
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    painted = tmp_path / "mask.png"
    Image.fromarray((255 * mask).astype(np.uint8)).save(painted)
    result = pipe("a lake", image=file.getvalue(), mask=painted, **STEPS)
    np.testing.assert_array_equal(result.images[0][kept], source[kept])
    clear = np.dstack([source, np.full(source.shape[:2], 255, np.uint8)])
    clear[:20, :, 3] = 0
    result = pipe("a lake", image=clear, mask=mask, **STEPS)
    expected = np.where(clear[:, :, 3:] > 0, source, 255)
    np.testing.assert_array_equal(result.images[0][kept], expected[kept])


def test_the_finished_photograph_is_enlarged(pipe):
    source, mask = photograph(40, 60), marked(40, 60, np.s_[10:20, 10:20])
    options = {"upscale": 2, "upscaler": "animevideov3", **STEPS}
    result = pipe("a lake", image=source, mask=mask, **options)
    assert result.images.shape == (1, 80, 120, 3)
    with pytest.raises(ParameterError, match="upscale must leave at most") as caught:
        pipe("a lake", image=np.zeros((3000, 3000, 3), np.uint8),
             mask=marked(3000, 3000, np.s_[0, 0]), **{**options, "upscale": 4})  # fmt: skip
    assert caught.value.name == "upscale"


def test_a_result_tells_how_to_make_it_again(pipe, tmp_path):
    source, mask = photograph(90, 70), marked(90, 70, np.s_[30:50, 20:40])
    result = pipe("a lake", image=source, mask=mask, inpaint_padding=5, **STEPS)
    read = images.read_metadata(result.save(tmp_path)[0])
    assert (read["width"], read["height"]) == (SIZE, SIZE)
    assert (read["inpaint_area"], read["inpaint_padding"]) == ("only_masked", 5)
    names = ("inpaint_area", "inpaint_padding", "strength", "width", "height")
    again = pipe(
        read["prompt"], image=source, mask=mask, seed=read["seed"], num_inference_steps=3,
        **{name: read[name] for name in names},
    )  # fmt: skip
    np.testing.assert_array_equal(again.images, result.images)


def test_a_stopped_call_has_no_pictures_of_the_size(pipe):
    source, mask = photograph(90, 70), marked(90, 70, np.s_[30:50, 20:40])
    result = pipe(
        "a lake", image=source, mask=mask, on_preview=lambda p: True, preview_every=1, **STEPS
    )
    assert result.images.shape == (0, 90, 70, 3)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "inpaint_area"),
        ({"outpaint": (8, 0, 0, 0)}, "inpaint_area"),
        ({"mask": np.zeros((90, 70), np.float32)}, "mask"),
        ({"mask": np.ones((70, 90), np.float32)}, "mask"),
        ({"mask": np.ones((90, 70), np.float32), "inpaint_padding": -1}, "inpaint_padding"),
        (
            {"mask": np.ones((90, 70), np.float32), "inpaint_upscaler": "nearest"},
            "inpaint_upscaler",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(pipe, given, name):
    with pytest.raises(ParameterError) as caught:
        pipe("a lake", image=photograph(90, 70), **{**STEPS, **given})
    assert caught.value.name == name
    with pytest.raises(ParameterError) as caught:
        pipe("a lake", **STEPS)
    assert caught.value.name == "inpaint_area"
