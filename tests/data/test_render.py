"""The scenes renderer: determinism, scenes of every kind, bad input, and what light and air do."""

import functools
import hashlib
import itertools
import warnings

import numpy as np
import pytest

from dg2_jax.data.scenes.attributes import SEASONS, SUBJECTS, TIMES, WEATHERS, Scene, is_possible
from dg2_jax.data.scenes.render import contact_sheet, render

LAKE = Scene("lake", "day", "clear", "summer")
LAND = [s for s in SUBJECTS if s != "aurora"]


@functools.cache
def pictures(seeds: int = 2, **changes) -> np.ndarray:
    """Pictures (subjects * seeds, 32, 32, 3), as floats, of every subject but the aurora."""
    scenes = [LAKE._replace(subject=subject, **changes) for subject in LAND]
    return np.stack([render(s, seed, 32) for s in scenes for seed in range(seeds)]).astype(float)


def test_is_a_function_of_scene_and_seed():
    image = render(LAKE, 3, 64)
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, render(LAKE, 3, 64))
    assert np.abs(image.astype(int) - render(LAKE, 4, 64)).mean() > 5


def test_does_not_touch_global_randomness():
    np.random.seed(0)  # noqa: NPY002
    before = hashlib.sha256(np.random.get_state()[1].tobytes()).hexdigest()  # noqa: NPY002
    render(LAKE, 0, 16)
    assert hashlib.sha256(np.random.get_state()[1].tobytes()).hexdigest() == before  # noqa: NPY002


@pytest.mark.parametrize("subject", SUBJECTS)
def test_scenes_render_cleanly(subject):
    """A third of each subject's scenes, the next subject's another third."""
    combinations = itertools.product([subject], TIMES, WEATHERS, SEASONS)
    possible = [s for s in map(Scene._make, combinations) if is_possible(s)]
    for seed, scene in list(enumerate(possible))[SUBJECTS.index(subject) % 3 :: 3]:
        with warnings.catch_warnings(), np.errstate(all="warn", under="ignore"):
            warnings.simplefilter("error")  # casting a NaN to uint8 warns too
            image = render(scene, seed, 16)
        assert image.shape == (16, 16, 3)
        assert image.std() > 3, f"{scene} is blank"


def test_attributes_change_the_picture():
    base = Scene("aurora", "night", "clear", "summer")
    scenes = [base._replace(subject=s) for s in SUBJECTS]
    scenes += [s._replace(weather="cloudy") for s in scenes] + [
        s._replace(time="dusk") for s in scenes
    ]
    images = [render(s, 0, 32).astype(int) for s in scenes]
    for (a, x), (b, y) in itertools.combinations(zip(scenes, images, strict=True), 2):
        assert np.abs(x - y).mean() > 1, f"{a} looks like {b}"


def test_the_later_the_darker():
    day, sunset, dusk, night = (pictures(time=t).mean() for t in ("day", "sunset", "dusk", "night"))
    assert day > 1.15 * sunset
    assert sunset > 1.1 * dusk
    assert dusk > 1.1 * night
    assert night > 20  # still readable


def test_sunset_is_warm_and_night_is_blue():
    sunset, night = (pictures(time=t).mean((0, 1, 2)) for t in ("sunset", "night"))
    assert sunset[0] > 1.3 * sunset[2]
    assert night[2] > 1.3 * night[0]


def test_fog_takes_contrast_away():
    clear, foggy = (pictures(weather=w).mean(-1).std((1, 2)).mean() for w in ("clear", "foggy"))
    assert foggy < 0.75 * clear


def test_rain_darkens_the_day():
    assert pictures(weather="rain").mean() < 0.9 * pictures(weather="clear").mean()


def test_snow_whitens_the_ground():
    snow, clear = (pictures(season="autumn", weather=w)[:, 24:].mean() for w in ("snow", "clear"))
    assert snow > 1.15 * clear


def test_autumn_leaves_are_redder_than_summer_leaves():
    def redness(season):
        images = [render(Scene("meadow", "day", "clear", season), s, 32) for s in range(6)]
        ground = np.stack(images)[:, 18:].astype(float).mean((0, 1, 2))
        return ground[0] / ground[1]

    assert redness("autumn") > 1.3 * redness("summer")


@pytest.mark.parametrize("name", ["subject", "time", "weather", "season"])
def test_unknown_attribute_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be one of .*'teapot'"):
        render(LAKE._replace(**{name: "teapot"}), 0)


@pytest.mark.parametrize(("arguments", "name"), [((-1, 64), "seed"), ((0, 15), "size")])
def test_bad_number_is_refused(arguments, name):
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        render(LAKE, *arguments)


def test_contact_sheet_places_images_row_by_row():
    images = [np.full((2, 3, 3), v, np.uint8) for v in (1, 2, 3)]
    sheet = contact_sheet(images, 2)
    expected = np.array([[1, 1, 1, 2, 2, 2], [3, 3, 3, 0, 0, 0]], np.uint8)
    np.testing.assert_array_equal(sheet[::2, :, 0], expected)
    assert sheet.shape == (4, 6, 3)


@pytest.mark.parametrize(("images", "columns"), [([], 2), ([np.zeros((2, 2, 3), np.uint8)], 0)])
def test_contact_sheet_refuses_nothing(images, columns):
    with pytest.raises(ValueError, match="contact_sheet needs"):
        contact_sheet(images, columns)
