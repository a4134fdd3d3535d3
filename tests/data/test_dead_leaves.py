"""Dead leaves: their spectrum is that of photographs, a picture depends on its seed alone."""

import numpy as np
import pytest

from dg2_jax.data.dead_leaves import Both, DeadLeaves

SIZE = 128


def test_the_spectrum_falls_as_that_of_photographs():
    """Power over frequency is f^-a with a near 2 for natural pictures (Field, 1987)."""
    frequency = np.fft.fftfreq(SIZE)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    source, power = DeadLeaves(12, SIZE), np.zeros((SIZE, SIZE))
    window = np.hanning(SIZE)[:, None] * np.hanning(SIZE)
    for i in range(len(source)):
        grey = source[i]["image"].mean(-1)
        power += np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    band = (radius > 0.03) & (radius < 0.3)
    slope = np.polyfit(np.log(radius[band]), np.log(power[band]), 1)[0]
    assert -3.2 < slope < -1.8


def test_a_picture_is_a_function_of_seed_and_index():
    a, b = DeadLeaves(4, 32, seed=1), DeadLeaves(9, 32, seed=1)
    assert a[2]["image"].shape == (32, 32, 3)
    assert a[2]["image"].dtype == np.uint8
    np.testing.assert_array_equal(a[2]["image"], b[2]["image"])
    assert (a[2]["image"] != a[3]["image"]).any()
    assert (a[2]["image"] != DeadLeaves(4, 32, seed=2)[2]["image"]).any()
    with pytest.raises(ValueError, match="size 16"):
        DeadLeaves(4, 8)


def test_one_source_behind_another():
    both = Both([{"image": "a"}, {"image": "b"}], [{"image": "c"}])
    assert [both[i]["image"] for i in range(len(both))] == ["a", "b", "c"]
