"""The free prompts: enough of them, every subject, none of the captions' own."""

import numpy as np

from dg2_jax.data.scenes.builder import make_example
from dg2_jax.evaluation.probe import ATTRIBUTES
from scripts.evaluate import free_prompts


def test_free_prompts():
    prompts, expected = free_prompts()
    assert len(prompts) >= 100
    assert len(set(prompts)) == len(prompts)
    assert np.bincount(expected["subject"], minlength=16).min() >= 5
    for name, values in ATTRIBUTES.items():
        assert expected[name].shape == (len(prompts),)
        assert set(expected[name]) <= set(range(-1, len(values)))
    captions = {c for i in range(32) for c in make_example(i, "train", 0)["captions"]}
    assert not captions & set(prompts)
