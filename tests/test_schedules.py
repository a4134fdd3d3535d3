"""Schedules against the published numbers and their defining properties."""

from pathlib import Path

import numpy as np
import pytest

from dg2_jax import schedules

GOLDEN = np.load(Path(__file__).parent / "golden" / "dg2_schedules.npz")


@pytest.mark.parametrize(
    ("name", "published"),
    [("linear", "linear"), ("curved", "curved"), ("cosine_legacy", "cosine")],
)
def test_published_numbers(name, published):
    schedule = schedules.make(name)
    np.testing.assert_allclose(
        schedule.alpha_bar, GOLDEN[f"{published}_alpha_bar"], rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(
        schedule.alpha, GOLDEN[f"{published}_sqrt_alpha_bar"], rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(
        schedule.sigma[5:],
        GOLDEN[f"{published}_sqrt_one_minus_alpha_bar"][5:],
        rtol=0,
        atol=1e-6,
    )
    np.testing.assert_allclose(schedule.beta, GOLDEN[f"{published}_beta"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", list(schedules.SCHEDULES))
@pytest.mark.parametrize("T", [10, 1000])
def test_decreasing_and_within_bounds(name, T):
    schedule = schedules.make(name, T)
    assert schedule.num_train_timesteps == T
    assert np.all(np.diff(schedule.alpha_bar) < 0)
    assert np.all((schedule.alpha_bar > 0) & (schedule.alpha_bar < 1))
    np.testing.assert_allclose(schedule.alpha**2 + schedule.sigma**2, 1.0)


def test_cosine_clips_beta_only_from_above():
    schedule = schedules.make("cosine")
    assert schedule.beta.min() < 1e-4  # the published clamp kept it above 1e-3
    assert schedule.beta.max() == pytest.approx(0.999)


def test_shift_moves_log_snr_by_a_constant():
    narrow, wide = (schedules.shifted_cosine(1000, r) for r in (1.0, 4.0))
    shift = np.log(wide.snr) - np.log(narrow.snr)
    np.testing.assert_allclose(shift, -2.0 * np.log(4.0), atol=1e-9)


def test_zero_terminal_keeps_the_first_level_and_ends_in_noise():
    schedule = schedules.make("curved", zero_terminal_snr=True)
    assert schedule.is_zero_terminal
    assert schedule.alpha_bar[0] == pytest.approx(schedules.make("curved").alpha_bar[0])
    assert schedules.default_spacing(schedule) == "trailing"


def test_spacings():
    assert schedules.timesteps(5, 1000, "linspace").tolist() == [999, 749, 500, 250, 0]
    assert schedules.timesteps(4, 1000, "leading").tolist() == [750, 500, 250, 0]
    assert schedules.timesteps(4, 1000, "leading", offset=1).tolist() == [751, 501, 251, 1]
    with pytest.raises(ValueError, match="1000 steps with an offset of 1 visit 1000, beyond 999"):
        schedules.timesteps(1000, 1000, "leading", offset=1)
    assert schedules.timesteps(3, 1000, "trailing").tolist() == [999, 666, 332]
    for spacing in schedules.SPACINGS:
        for steps in (1, 7, 999, 1000):
            t = schedules.timesteps(steps, 1000, spacing)
            assert len(t) == steps
            assert np.all(np.diff(t) < 0)
            assert t.min() >= 0
            assert t.max() <= 999


@pytest.mark.parametrize("steps", [0, -1, 1001, 10**9, True])
def test_bad_step_counts(steps):
    with pytest.raises(ValueError, match="num_inference_steps must be an integer from 1 to 1000"):
        schedules.timesteps(steps, 1000)


def test_bad_names():
    with pytest.raises(ValueError, match="schedule must be one of linear, curved"):
        schedules.make("quadratic")
    with pytest.raises(ValueError, match="spacing must be one of"):
        schedules.timesteps(10, 1000, "karras")
    with pytest.raises(ValueError, match="num_train_timesteps must be at least 2"):
        schedules.make("linear", 1)
