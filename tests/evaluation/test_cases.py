"""Renders are those of the data set; free prompts are many, of every subject, and no captions."""

import io

import numpy as np
from PIL import Image

from dg2_jax.data.scenes.builder import make_example, render_png
from dg2_jax.data.scenes.captions import captions
from dg2_jax.data.scenes.sampling import draw_scene, picture_seed
from dg2_jax.evaluation.cases import ATTRIBUTES, free_prompts, renders


def test_free_prompts():
    prompts, expected = free_prompts()
    assert len(prompts) >= 100
    assert len(set(prompts)) == len(prompts)
    assert np.bincount(expected["subject"], minlength=16).min() >= 5
    for name, values in ATTRIBUTES.items():
        assert expected[name].shape == (len(prompts),)
        assert set(expected[name]) <= set(range(-1, len(values)))
    scenes = [(draw_scene(i, "train"), picture_seed(i, "train")) for i in range(32)]
    assert not {c.text for scene in scenes for c in captions(*scene)} & set(prompts)


def test_renders_are_the_data_sets(tmp_path):
    actual = renders("test", 3, seed=2, size=64)
    for i in range(3):
        png = render_png(i, "test", 2, 64, tmp_path)
        example = make_example(i, "test", 2, png)
        np.testing.assert_array_equal(actual.images[i], np.asarray(Image.open(io.BytesIO(png))))
        assert actual.captions[i] == example["captions"][i]
        for name, values in ATTRIBUTES.items():
            assert values[actual.shown[name][i]] == example[name]


def test_only_what_a_caption_names_is_asked_for():
    actual = renders("test", 12, size=16)
    for i, text in enumerate(actual.captions):
        for name in ATTRIBUTES:
            assert actual.asked[name][i] in (-1, actual.shown[name][i])
        assert actual.asked["subject"][i] >= 0
        if len(text.split()) == 1:
            assert actual.asked["time"][i] == actual.asked["weather"][i] == -1
    shares = {name: np.mean(actual.asked[name] >= 0) for name in ATTRIBUTES}
    assert 0.3 < shares["weather"] < 1.0
    assert 0.3 < shares["time"] < 1.0
