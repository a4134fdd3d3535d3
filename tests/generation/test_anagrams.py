"""Anagrams on a small untrained model: symmetries that hold for any weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion import views
from dg2_jax.generation import call, coder, drivers
from dg2_jax.generation.inputs import Source
from dg2_jax.settings import Settings
from tests.generation.conftest import SIZE

NOISE = np.random.default_rng(0).normal(size=(1, SIZE // 8, SIZE // 8, 4)).astype(np.float32)


def turned(x, view):
    return np.asarray(views.apply(jnp.asarray(x), views.make(view, *x.shape[1:3])))


def begin(pipe, pairs, mode, **controls):
    settings = Settings(anagram=pairs, anagram_mode=mode, num_inference_steps=4, **controls)
    weaker = call.WeakerModels()
    return call.begin(pipe.model, pipe.text_encoder, weaker, settings, call.Asked())


def sampled(pipe, start, pairs, mode="latent", **controls):
    """The latents of an anagram that starts from given ones."""
    run = begin(pipe, pairs, mode, **controls)
    one, zero = jax.device_put((np.float32(1.0), np.float32(0.0)))
    source = Source(jnp.asarray(start), one, zero, run.source.original, run.source.change)
    return dataclasses.replace(run, source=source).run([0]).latents


@pytest.mark.parametrize("view", ["flip_horizontal", "rot180"])
def test_an_anagram_of_one_prompt_is_symmetric(pipe, view):
    """From symmetric noise; the network itself turns that into something else."""
    start = NOISE + turned(NOISE, view)
    pairs = [("a lake", "identity"), ("a lake", view)]
    latents = sampled(pipe, start, pairs)
    np.testing.assert_allclose(turned(latents, view), latents, atol=1e-4)
    plain = sampled(pipe, start, [("a lake", "identity")] * 2)
    assert np.abs(turned(plain, view) - plain).max() > 0.1


@pytest.mark.parametrize("mode", ["latent", "corrected"])
@pytest.mark.parametrize("view", ["rot180", "negate"])
def test_seen_in_its_other_view_an_anagram_is_that_of_the_exchanged_prompts(pipe, mode, view):
    one = sampled(pipe, NOISE, [("a lake", "identity"), ("a volcano", view)], mode)
    other = turned(NOISE, view)
    exchanged = sampled(pipe, other, [("a volcano", "identity"), ("a lake", view)], mode)
    np.testing.assert_allclose(turned(one, view), exchanged, atol=1e-4)
    assert np.abs(one - sampled(pipe, NOISE, [("a lake", "identity")] * 2, mode)).max() > 1e-3


def test_the_order_of_three_views_does_not_matter(pipe):
    pairs = [("a lake", "identity"), ("a volcano", "rot90"), ("hills", "jigsaw")]
    first, second = (sampled(pipe, NOISE, order) for order in (pairs, pairs[::-1]))
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_the_same_view_twice_is_no_anagram(pipe):
    plain = pipe("a lake", num_images=2, num_inference_steps=4)
    for mode in ("latent", "corrected"):
        same = pipe(
            anagram=[("a lake", "identity")] * 2,
            anagram_mode=mode,
            num_images=2,
            num_inference_steps=4,
        )
        np.testing.assert_allclose(same.latents, plain.latents, atol=2e-3)


def test_a_pixel_anagram_is_the_mean_of_its_views_turned_back(pipe):
    pairs = [("a lake", "identity"), ("a volcano", "rot90")]
    run = begin(pipe, pairs, "pixel")
    plan, inputs = run.inputs([0], run.text_encoder)
    latents, _ = drivers.generate(plan.program, run.weights, inputs, plan.num_rows)
    assert len(latents) == 2
    decode = coder.bind(pipe.model.autoencoder, pipe.model.autoencoder_params).decode
    seen = np.asarray(jax.jit(decode)(latents))
    mean = (seen[0] + np.rot90(seen[1], -1)) / 2
    picture = pipe(anagram=pairs, anagram_mode="pixel", num_inference_steps=4).images[0]
    np.testing.assert_allclose(picture, np.clip(127.5 * (mean + 1.0), 0, 255), atol=0.51)


def test_the_prompts_and_views_of_an_anagram_are_told(pipe):
    pairs = (("a lake", "identity"), ("a volcano", "flip_vertical"))
    result = pipe(anagram=[*pairs], num_inference_steps=1)
    assert result.prompts == ("a lake | a volcano",)
    assert result.metadata(0)["anagram"] == pairs
