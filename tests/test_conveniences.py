"""What users of diffusion tools expect of a pipeline: hints, a bar, copies, a compile cache."""

import copy
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

from dg2_jax import Pipeline
from dg2_jax.checks import ParameterError
from dg2_jax.controls.arguments import declared
from dg2_jax.controls.other_names import OTHER_NAMES
from dg2_jax.models.adapters import Library
from tests.sd_models import GOLDEN, lora_file

STEPS = {"num_inference_steps": 2}


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("num_images_per_prompt", "use num_images"),
        ("generator", "use seed"),
        ("output_type", "use the result's .images, NumPy arrays, or .pil, PIL images"),
        ("cfg_scale", "use guidance_scale"),
        ("steps", "use num_inference_steps"),
        ("scheduler", "use solver"),
        ("padding_mask_crop", "use inpaint_area"),
        ("size", "use height and width"),
        ("callback_on_step_end", "use on_preview"),
        ("widht", "did you mean width"),
        ("guidence_scale", "did you mean guidance_scale"),
        ("num_inference_step", "did you mean num_inference_steps"),
        ("zzz", "which has: prompt, negative_prompt, "),
    ],
)
def test_an_unknown_name_is_answered_with_ours(pipe, given, hint):
    with pytest.raises(ParameterError) as caught:
        pipe("a lake", **{given: 1})
    assert caught.value.name == given
    assert str(caught.value).startswith(f"{given} is not a parameter of Pipeline")
    assert hint in str(caught.value)


def test_a_sampler_is_not_told_names_that_it_lacks(pipe):
    with pytest.raises(ParameterError, match=r"num_images_per_prompt is not a parameter of") as e:
        pipe.sampler(num_images_per_prompt=2)
    assert "use num_images" not in str(e.value)
    with pytest.raises(ParameterError, match=r"Pipeline.sampler; use guidance_scale"):
        pipe.sampler(cfg_scale=2.0)


def test_other_names_lead_to_parameters_there_are(pipe):
    import inspect

    known = set(inspect.signature(pipe.__call__).parameters)
    assert set(declared()) <= known
    for theirs, ours in OTHER_NAMES.items():
        assert theirs not in known
        assert ours in known or not ours.isidentifier()


def test_a_bar_shows_steps_rate_and_time_left(pipe, capsys):
    result = pipe("a lake", num_images=17, progress=True, num_inference_steps=3)
    shown = capsys.readouterr().err
    assert len(result) == 17
    assert "6/6" in shown  # three steps of each of two batches
    assert re.search(r"\d\d:\d\d<\d\d:\d\d, .*step", shown)
    quiet = pipe("a lake", num_images=17, num_inference_steps=3)
    np.testing.assert_array_equal(quiet.images, result.images)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("transport", ["poll", "callback"])
def test_a_bar_goes_with_previews_and_tells_where_it_was_stopped(pipe, capsys, transport):
    other = Pipeline(pipe.model, pipe.text_encoder, preview_transport=transport)
    seen = []
    options = {"progress": True, "num_inference_steps": 6, "preview_every": 2}
    other("a lake", on_preview=lambda shown: seen.append(shown.step), **options)
    assert seen == [2, 4, 6]
    assert "6/6" in capsys.readouterr().err
    assert other("a lake", on_preview=lambda shown: shown.step == 4, **options).stopped
    assert "4/6" in capsys.readouterr().err.rsplit("\r", 1)[-1]


def test_a_bar_of_no_steps(pipe, capsys):
    picture = np.zeros((32, 32, 3), np.uint8)
    pipe("a lake", image=picture, strength=0.0, progress=True)
    assert "0step" in capsys.readouterr().err


def test_a_function_is_told_the_images_done(pipe):
    told = []
    pipe("a lake", num_images=17, progress=lambda *done: told.append(done), **STEPS)
    assert told == [(16, 17), (17, 17)]


def copies(pipe):
    yield copy.deepcopy(pipe)
    yield copy.copy(pipe)
    yield pickle.loads(pickle.dumps(pipe))


def test_copies_make_the_same_pictures(pipe):
    expected = pipe("a (lake:1.2)", "fog", **STEPS)
    for other in copies(pipe):
        made = other("a (lake:1.2)", "fog", **STEPS)
        np.testing.assert_array_equal(made.images, expected.images)
        raw = other("a lake", weights="raw", **STEPS)
        np.testing.assert_array_equal(raw.images, pipe("a lake", weights="raw", **STEPS).images)


def test_copies_of_changed_pipelines(pipe):
    smaller = pipe.quantized("bfloat16")
    expected = smaller("a lake", **STEPS)
    for other in copies(smaller):
        np.testing.assert_array_equal(other("a lake", **STEPS).images, expected.images)


def test_copies_of_stable_diffusion(tmp_path):
    lora_file(tmp_path / "ink.safetensors", "xl_small")
    small = Pipeline.load(GOLDEN / "xl_small", loras=tmp_path)
    prompts = ("a lake", "a lake <lora:ink:1>")
    expected = [small(prompt, **STEPS).images for prompt in prompts]
    other = pickle.loads(pickle.dumps(small))
    assert pickle.dumps(small.adapters) == pickle.dumps(Library(tmp_path))  # no address in it
    for prompt, images in zip(prompts, expected, strict=True):
        np.testing.assert_array_equal(other(prompt, **STEPS).images, images)


def test_a_pickle_is_read_in_another_process(pipe, tmp_path):
    """Where nothing hashes as it does here."""
    (tmp_path / "pipe").write_bytes(pickle.dumps(pipe))
    code = (
        "import pickle, sys, numpy; pipe = pickle.load(open(sys.argv[1], 'rb')); "
        "numpy.save(sys.argv[2], pipe('a lake', num_inference_steps=2).images)"
    )
    out = tmp_path / "out.npy"
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "pipe", out], env=env, check=True)
    np.testing.assert_array_equal(np.load(out), pipe("a lake", **STEPS).images)
