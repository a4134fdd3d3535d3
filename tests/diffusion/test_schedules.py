"""Schedules against the published numbers and their defining properties."""

from pathlib import Path

import numpy as np
import pytest

from dg2_jax.diffusion import schedules, stepping
from dg2_jax.training.process import DiffusionConfig

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "dg2_schedules.npz")


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
    for spacing in schedules.EVEN:
        for steps in (1, 7, 999, 1000):
            t = schedules.timesteps(steps, 1000, spacing)
            assert len(t) == steps
            assert np.all(np.diff(t) < 0)
            assert t.min() >= 0
            assert t.max() <= 999


@pytest.mark.parametrize("name", ["linear", "curved", "cosine"])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("spacing", schedules.BY_NOISE)
def test_spacings_by_noise_give_every_step_its_own_level(name, zero_terminal_snr, spacing):
    schedule = schedules.make(name, 1000, zero_terminal_snr)
    for steps in (1, 2, 7, 20, 999, 1000):
        t = schedules.timesteps_by_noise(steps, schedule, spacing)
        assert len(t) == steps
        assert np.all(np.diff(t) < 0)
        assert t[0] == 999
        assert t[-1] == 0 or steps == 1
    assert schedules.timesteps_by_noise(20, schedule, spacing, below=300)[0] == 299


def test_spacings_by_noise_are_those_of_their_equations():
    """With many levels, evenly spaced in log r, rounding to a level hardly matters."""
    ratios = np.geomspace(0.03, 15.0, 50_000)
    schedule = schedules.from_table("fine", 1.0 / (1.0 + ratios**2))
    for steps in (5, 20):
        i = np.arange(steps) / (steps - 1)
        karras = (15.0 ** (1 / 7) + i * (0.03 ** (1 / 7) - 15.0 ** (1 / 7))) ** 7
        visited = ratios[schedules.timesteps_by_noise(steps, schedule, "karras")]
        np.testing.assert_allclose(visited, karras, rtol=2e-4)
        exponential = 15.0 * (0.03 / 15.0) ** i
        visited = ratios[schedules.timesteps_by_noise(steps, schedule, "exponential")]
        np.testing.assert_allclose(visited, exponential, rtol=2e-4)


@pytest.mark.parametrize("steps", [0, -1, 1001, 10**9, True])
def test_bad_step_counts(steps):
    with pytest.raises(ValueError, match="num_inference_steps must be an integer from 1 to 1000"):
        schedules.timesteps(steps, 1000)


def test_bad_names():
    with pytest.raises(ValueError, match="schedule must be one of linear, curved"):
        schedules.make("quadratic")
    with pytest.raises(ValueError, match="spacing must be one of"):
        schedules.timesteps(10, 1000, "karras")
    with pytest.raises(ValueError, match="spacing must be one of karras, exponential"):
        schedules.timesteps_by_noise(10, schedules.make("curved"), "linspace")
    with pytest.raises(ValueError, match="num_train_timesteps must be at least 2"):
        schedules.make("linear", 1)


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("linear", {"beta1": 0.0001, "beta2": 0.02}),
        ("curved", {"beta1": 0.004, "beta2": 0.02}),
        ("cosine", {"s": 0.02}),
        ("cosine_legacy", {"s": 0.0}),
    ],
)
def test_figures_of_the_schedules(name, figures):
    schedule = schedules.make(name, **figures)
    t = np.arange(1001) / 1000
    if name == "linear":
        expected = np.cumprod(1 - np.linspace(0.0001, 0.02, 1000))
    elif name == "curved":
        expected = np.cumprod(1 - np.linspace(0.004**0.5, 0.02**0.5, 1000) ** 2)
    else:
        f = np.cos((t + figures["s"]) / (1 + figures["s"]) * np.pi / 2) ** 2
        least = 0.001 if name == "cosine_legacy" else 0.0
        expected = np.cumprod(np.clip(f[1:] / f[:-1], 0.001, 1.0 - least))
    np.testing.assert_allclose(schedule.alpha_bar, expected, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "figures", "message"),
    [
        ("linear", {"s": 0.02}, r"s must be left at 0\.008 with schedule linear"),
        ("cosine", {"beta1": 0.001}, r"beta1 must be left at 0\.00085 with schedule cosine"),
        ("shifted_cosine", {"beta2": 0.02}, "beta2 must be left"),
        ("linear", {"beta1": 0.02, "beta2": 0.01}, "0 < beta1 <= beta2 < 1"),
        ("linear", {"beta2": 1.0}, "0 < beta1 <= beta2 < 1"),
        ("curved", {"beta1": 0.9, "beta2": 0.999}, "beta2 must leave some signal"),
        ("linear", {"beta1": 0.0}, "0 < beta1 <= beta2 < 1"),
        ("cosine", {"s": -0.1}, r"s must be in \[0, 1\)"),
        ("cosine", {"s": 1.0}, r"s must be in \[0, 1\)"),
    ],
)
def test_figures_out_of_place_are_named(name, figures, message):
    with pytest.raises(ValueError, match=message):
        schedules.make(name, **figures)
    with pytest.raises(ValueError, match=r"diffusion\..*" + message):
        DiffusionConfig(schedule=name, **figures)


def test_a_table_is_taken_as_it_is():
    schedule = schedules.from_table("imported", [1.0, 0.64, 0.36, 0.0])
    assert schedule.num_train_timesteps == 4
    np.testing.assert_allclose(schedule.alpha, [1.0, 0.8, 0.6, 0.0])
    np.testing.assert_allclose(schedule.sigma, [0.0, 0.6, 0.8, 1.0])
    assert schedule.is_zero_terminal
    assert schedules.from_table("imported", [0.9, 0.1]).num_train_timesteps == 2


@pytest.mark.parametrize(
    "table",
    [
        *([0.9], [0.5, 0.5], [0.1, 0.9], [1.2, 0.5], [0.5, -0.1]),
        *(np.array([[0.9, 0.1]]), np.array(["noise", "more"])),
    ],
    ids=str,
)
def test_bad_tables(table):
    with pytest.raises(ValueError, match="at least two decreasing numbers"):
        schedules.from_table("imported", table)


@pytest.mark.parametrize(("steps", "first"), [(500, 999), (400, 799), (1000, 999)])
def test_an_offset_of_leading_steps_stays_within_the_levels(steps, first):
    """Two levels a step leave room for an offset of one, one level a step for none."""
    leading = stepping.Stepping("leading", steps_offset=1)
    t = leading.timesteps(schedules.make("linear"), steps)
    offset = 0 if steps == 1000 else 1
    np.testing.assert_array_equal(t[::-1], np.arange(steps) * (1000 // steps) + offset)
    assert t[0] == first
