"""The plan of a call: which timesteps are visited, in which batches."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dg2_jax.diffusion import schedules
from dg2_jax.generation import plan, tasks
from dg2_jax.pictures import preview
from dg2_jax.settings import BATCH_SIZES, Settings

SCHEDULE = schedules.make("cosine")
STEPS = st.integers(1, 1000)
SPACINGS = st.sampled_from(schedules.SPACINGS)
STRENGTHS = st.floats(0.0, 1.0)


@given(
    steps=STEPS,
    spacing=SPACINGS,
    strength=STRENGTHS,
    mode=st.sampled_from(["partial", "full"]),
    edits=st.booleans(),
)
def test_visited_timesteps_go_down_within_the_schedule(steps, spacing, strength, mode, edits):
    settings = Settings(
        num_inference_steps=steps, spacing=spacing, strength=strength, strength_mode=mode
    )
    t = plan.timesteps(SCHEDULE, settings, edits)
    assert len(t) <= steps
    assert (np.diff(t) < 0).all()
    assert not len(t) or (t[-1] >= 0 and t[0] < 1000)
    if not edits:
        expected = (
            schedules.timesteps(steps, 1000, spacing)
            if spacing in schedules.EVEN
            else schedules.timesteps_by_noise(steps, SCHEDULE, spacing)
        )
        np.testing.assert_array_equal(t, expected)


@given(steps=STEPS, spacing=SPACINGS, strength=STRENGTHS)
def test_partial_strength_runs_the_last_steps_of_txt2img(steps, spacing, strength):
    settings = Settings(num_inference_steps=steps, spacing=spacing, strength=strength)
    whole = plan.timesteps(SCHEDULE, settings, edits=False)
    t = plan.timesteps(SCHEDULE, settings, edits=True)
    assert len(t) == int(steps * strength)
    np.testing.assert_array_equal(t, whole[len(whole) - len(t) :])


@given(steps=STEPS, spacing=SPACINGS, strength=STRENGTHS)
def test_full_strength_spreads_all_steps_below_its_share_of_the_levels(steps, spacing, strength):
    settings = Settings(
        num_inference_steps=steps, spacing=spacing, strength=strength, strength_mode="full"
    )
    t = plan.timesteps(SCHEDULE, settings, edits=True)
    levels = round(1000 * strength)
    assert len(t) == min(steps, levels)
    assert not len(t) or t[0] < levels


def test_the_default_spacing_is_the_schedule_s():
    settings = Settings(num_inference_steps=7)
    for schedule in (SCHEDULE, schedules.make("cosine", 1000, True)):
        expected = schedules.timesteps(7, 1000, schedules.default_spacing(schedule))
        np.testing.assert_array_equal(plan.timesteps(schedule, settings, False), expected)


@given(count=st.integers(1, 256))
def test_batches_hold_every_image_once_and_have_compiled_sizes(count):
    batches = plan.batches(count)
    assert {len(batch) for batch in batches} <= {*BATCH_SIZES}
    images = [i for batch in batches for i in dict.fromkeys(batch)]
    assert images == list(range(count))
    assert all(batch[:-1] == list(range(batch[0], batch[0] + 16))[:-1] for batch in batches[:-1])


@pytest.mark.parametrize(
    ("controls", "task", "copies"),
    [
        ({}, tasks.Plain(), 1),
        ({"anagram": [("a", "identity")] * 3}, tasks.SharedAnagram(3), 3),
        ({"anagram": [("a", "identity")] * 2, "anagram_mode": "corrected"},
         tasks.SharedAnagram(2), 2),
        ({"inversion": "ddpm"}, tasks.FollowSource(), 2),
        ({"inversion": "ddim"}, tasks.Plain(), 1),
    ],
)  # fmt: skip
def test_equal_settings_have_equal_tasks(pipe, controls, task, copies):
    """A task is part of what is compiled, so equality and hash decide on recompilation."""
    found = tasks.of_settings(Settings(**controls), pipe.model.autoencoder, num_steps=4)
    assert found == task
    assert hash(found) == hash(task)
    assert found.copies == copies


def test_a_pixel_anagram_has_the_autoencoder_of_its_model(pipe):
    pairs = [("a", "identity")] * 2
    settings = Settings(anagram=pairs, anagram_mode="pixel")
    task = tasks.of_settings(settings, pipe.model.autoencoder, 4)
    assert task == tasks.PixelAnagram(2, pipe.model.autoencoder)
    assert task.autoencoder is pipe.model.autoencoder


def test_without_steps_there_is_no_source_to_follow(pipe):
    settings = Settings(inversion="ddpm")
    assert tasks.of_settings(settings, pipe.model.autoencoder, 0) == tasks.Plain()


def test_the_plan_of_an_edit_starts_at_the_level_of_its_first_step(pipe):
    model = pipe.model
    settings = Settings(strength=0.5, num_inference_steps=10)
    to_rgb = preview.of_model(model.config, model.latent_channels)

    def make(strength):
        return plan.make(
            model, dataclasses.replace(settings, strength=strength), to_rgb, edits=True
        )

    made = make(0.5)
    first = plan.timesteps(model.schedule, settings, True)[0]
    assert made.num_rows == 5
    assert made.start_alpha == model.schedule.alpha[first]
    assert made.start_sigma == model.schedule.sigma[first]
    full = make(1.0)
    assert (full.start_alpha, full.start_sigma, full.num_rows) == (0.0, 1.0, 10)
    none = make(0.0)
    assert (none.start_alpha, none.start_sigma, none.num_rows) == (1.0, 0.0, 0)
