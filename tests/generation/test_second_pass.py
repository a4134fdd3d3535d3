"""A second pass: latents enlarged, noised and sampled again at a larger size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.checks import ParameterError
from dg2_jax.diffusion import sampling
from dg2_jax.generation import coder, drivers
from dg2_jax.generation.second_pass import enlarged

FIRST = {"num_inference_steps": 3, "seed": 5}
LARGE = (64, 64)


def keys_of_the_second_pass(*seeds):
    keys = sampling.image_keys(jnp.asarray(seeds, jnp.uint32))
    return jax.vmap(lambda key: jax.random.fold_in(key, sampling.SECOND_PASS))(keys)


@pytest.fixture(scope="module")
def first(pipe):
    return pipe("a lake", **FIRST)


def test_strength_0_only_enlarges_the_latents(pipe, first):
    made = pipe("a lake", **FIRST, hires_size=LARGE, hires_method="nearest", hires_strength=0.0)
    expected = first.latents.repeat(2, 1).repeat(2, 2)
    np.testing.assert_allclose(made.latents, expected, atol=1e-6)
    model = pipe.model
    decoded = coder.decode(model.autoencoder, model.autoencoder_params, expected)
    np.testing.assert_array_equal(made.images, decoded)
    assert made.settings.hires_size == LARGE
    assert (made.metadata(0)["height"], made.metadata(0)["width"]) == (32, 32)


def test_strength_1_is_a_picture_of_that_size_from_noise_of_its_own(pipe):
    made = pipe("a lake", "fog", **FIRST, hires_size=LARGE, hires_strength=1.0, hires_steps=4)
    sample = pipe.sampler(num_inference_steps=4, height=64, width=64)
    text = pipe.encode(["a lake"], ["fog"])
    expected = sample(pipe.model.params["ema"], text, keys_of_the_second_pass(FIRST["seed"]))
    np.testing.assert_allclose(made.latents, expected, atol=1e-3)


@pytest.mark.parametrize("solver", ["ddim", "euler_ancestral", "heun"])
def test_it_is_img2img_that_starts_from_latents(pipe, first, solver):
    steps = {"num_inference_steps": 6, "solver": solver}
    start = pipe("a lake", seed=5, **steps).latents
    made = pipe("a lake", seed=5, **steps, hires_size=LARGE, hires_strength=0.5)
    any_picture = np.zeros((64, 64, 3), np.uint8)
    edit = pipe.begin(
        prompt="a lake", image=any_picture, strength=0.5, height=64, width=64, seed=5, **steps
    )
    plan, inputs = edit.inputs([0], pipe.text_encoder)
    larger = enlarged(jnp.asarray(start), (8, 8), "bilinear")
    source = inputs.source._replace(start=larger)
    inputs = inputs._replace(source=source, keys=keys_of_the_second_pass(5))
    expected, _ = drivers.generate(plan.program, edit.weights, inputs, plan.num_rows)
    np.testing.assert_allclose(made.latents, expected, atol=1e-3)
    assert np.abs(made.latents - np.asarray(larger)).max() > 1e-2


def test_a_picture_does_not_depend_on_its_neighbours(pipe):
    asked = {"num_inference_steps": 3, "hires_size": (48, 64), "hires_strength": 0.6}
    together = pipe(["a lake", "a hill AND fog :0.5", "a (red:1.3) tree"], seed=7, **asked)
    assert together.images.shape == (3, 48, 64, 3)
    for number, prompt in enumerate(together.prompts):
        alone = pipe(prompt, seed=7 + number, **asked)
        np.testing.assert_allclose(alone.latents[0], together.latents[number], atol=1e-4)


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "nearest"])
def test_enlarging_keeps_proportions_and_cuts_evenly(method):
    ramp = np.arange(6.0, dtype=np.float32)[None, None, :, None].repeat(4, 1)
    double = np.asarray(enlarged(jnp.asarray(ramp), (8, 12), method))
    inner = slice(4, -4)
    between = np.repeat(np.arange(6), 2) if method == "nearest" else np.arange(12) / 2 - 0.25
    np.testing.assert_allclose(double[0, 0, inner, 0], between[inner], atol=1e-5)
    cut = np.asarray(enlarged(jnp.asarray(ramp), (8, 8), method))
    np.testing.assert_allclose(cut, double[:, :, 2:-2], atol=1e-5)


def test_previews_and_stops_are_of_both_passes(pipe):
    asked = {"num_inference_steps": 4, "hires_size": LARGE, "hires_strength": 0.5}
    seen = []

    def show(preview, stop_at=None):
        seen.append((preview.step, preview.num_steps, preview.images.shape[1:3]))
        return preview.step == stop_at

    done = pipe("x", on_preview=show, preview_every=1, **asked)
    small, large = (4, 4), (8, 8)
    assert seen == [(step, 6, small if step <= 4 else large) for step in range(1, 7)]
    assert not done.stopped
    for stop_at in (2, 4, 5):
        seen.clear()
        stopped = pipe("x", on_preview=lambda p, at=stop_at: show(p, at), preview_every=1, **asked)
        assert stopped.stopped
        assert stopped.images.shape == (0, 64, 64, 3)
        assert seen[-1][0] == stop_at


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"anagram": [("a", "identity"), ("b", "rot180")]}, "hires_size cannot be combined"),
        ({"image": np.zeros((32, 32, 3), np.uint8)}, "hires_size is of pictures from prompts"),
        ({"hires_size": (64, 40)}, "hires_size must be a multiple of 16"),
        ({"hires_steps": 1001}, "hires_steps must be"),
        ({"hires_method": "lanczos"}, "hires_method must be one of bilinear"),
        ({"hires_scale": 2}, "use hires_size"),
    ],
)
def test_what_is_refused(pipe, asked, message):
    with pytest.raises(ParameterError, match=message):
        pipe(**{"hires_size": LARGE, **asked})


def test_it_shares_no_batch(pipe):
    requests = [{"prompt": "a lake", **FIRST, "hires_size": LARGE}, {"prompt": "a hill", **FIRST}]
    shapes = {number: result.images.shape for number, result in pipe.stream(requests)}
    assert shapes == {0: (1, 64, 64, 3), 1: (1, 32, 32, 3)}
