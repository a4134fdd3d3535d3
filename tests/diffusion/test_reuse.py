"""Reuse of deep features while sampling: when they are computed, and what comes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion import denoiser, guidance, reuse, sampling, schedules
from dg2_jax.generation import coder
from dg2_jax.pipeline import Pipeline
from tests import tiny_model
from tests.diffusion.test_guidance import guidance_of

ROWS = 9


class Dated:
    """A network whose features, and whose estimate of x₀, are the timestep they are from."""

    def deep_shape(self, latent_shape):
        return latent_shape

    def evaluate(self, x, t, conditioning, deep=None):
        assert len(conditioning) == len(x)
        if deep is None:
            deep = jnp.broadcast_to(t[:, None, None, None].astype(x.dtype), x.shape)
        return deep, deep


def dates(denoise, conditioning, sigma):
    """When the features of each row are from; rows are numbered as their timesteps are."""
    x = jnp.zeros((2, 2, 2, 1))
    levels = denoiser.Level(jnp.arange(ROWS), jnp.ones(ROWS), jnp.asarray(sigma, jnp.float32))

    def body(memory, level):
        x0, memory = denoise.apply(x, level, conditioning, memory)
        return memory, x0

    return jax.jit(lambda: jax.lax.scan(body, denoise.init(x), levels)[1])()


@pytest.mark.parametrize("every", [1, 2, 4, 100])
def test_the_first_row_and_every_nth_are_computed(every):
    denoise = reuse.denoiser(Dated(), "sample", jnp.int32(every))
    actual = dates(denoise, jnp.zeros(2), np.ones(ROWS))
    for row in range(ROWS):
        np.testing.assert_array_equal(actual[row], row - row % every)


def guided(every, sigma_interval=None):
    denoise = reuse.denoiser(Dated(), "sample", jnp.int32(every))
    numbers = guidance_of([3.0, 3.0], interval=sigma_interval or (0.0, 1.0))
    strong = guidance.adaptive_projected(denoise, numbers)
    if sigma_interval is None:
        return strong
    return guidance.within_interval(strong, denoise, numbers)


def test_guidance_keeps_its_own_memory_beside_the_features():
    paired = guidance.pair(jnp.zeros(2), jnp.zeros(2))
    actual = dates(guided(3), paired, np.ones(ROWS))
    np.testing.assert_array_equal(actual[:, 0, 0, 0, 0], np.arange(ROWS) // 3 * 3)


def test_a_branch_that_was_not_evaluated_is_computed_when_it_comes_back():
    """Rows 2 to 5 are inside; at row 2 the null text's features were never computed."""
    paired = guidance.pair(jnp.zeros(2), jnp.zeros(2))
    sigma = np.linspace(0.9, 0.1, ROWS)
    actual = dates(guided(3, (sigma[5] - 0.01, sigma[2] + 0.01)), paired, sigma)
    np.testing.assert_array_equal(actual[:, 0, 0, 0, 0], [0, 0, 2, 2, 2, 5, 5, 5, 8])


def test_autoguidance_remembers_for_both_networks():
    class Minus(Dated):
        def evaluate(self, x, t, conditioning, deep=None):
            return super().evaluate(x, -t, conditioning, deep)

    both = guidance.autoguided(
        reuse.denoiser(Dated(), "sample", jnp.int32(2)),
        reuse.denoiser(Minus(), "sample", jnp.int32(3)),
        jnp.full(2, 2.0),
    )
    actual = dates(both, (jnp.zeros(2), jnp.zeros(2)), np.ones(ROWS))
    good, worse = np.arange(ROWS) // 2 * 2, -(np.arange(ROWS) // 3 * 3)
    np.testing.assert_array_equal(actual[:, 0, 0, 0, 0], worse + 2.0 * (good - worse))


def by_hand(pipe, every, steps, scale):
    """DDIM with classifier-free guidance, one network evaluation a branch, written out."""
    model = pipe.model
    graph = model.denoiser
    evaluate = jax.jit(lambda params, *args: graph.bind(params).evaluate(*args))
    params = model.params["ema"]
    text = pipe.encode(["a lake"], ["fog"])
    project = jax.jit(lambda params, *text: graph.bind(params).project_context(*text))
    branches = [
        project(params, text.prompt.context, text.prompt.mask),
        project(params, text.negative_prompt.context, text.negative_prompt.mask),
    ]
    schedule = model.schedule
    t = schedules.timesteps(steps, 1000, schedules.default_spacing(schedule))
    x = sampling.initial_noise(sampling.image_keys(jnp.zeros(1, jnp.uint32)), model.latent_shape)
    deep = [None, None]
    for i, now in enumerate(t):
        a, s = schedule.alpha[now], schedule.sigma[now]
        a1, s1 = (
            (1.0, 0.0) if i + 1 == steps else (schedule.alpha[t[i + 1]], schedule.sigma[t[i + 1]])
        )
        estimates = []
        for j, branch in enumerate(branches):
            given = () if i % every == 0 else (deep[j],)
            v, deep[j] = evaluate(params, x, jnp.array([now]), branch, *given)
            estimates.append(a * np.asarray(x) - s * np.asarray(v))
        x0 = estimates[1] + scale * (estimates[0] - estimates[1])
        x = jnp.asarray(a1 * x0 + s1 * (np.asarray(x) - a * x0) / s, jnp.float32)
    return x


@pytest.mark.parametrize(("every", "scale"), [(1, 2.5), (3, 2.5), (2, 1.0)])
def test_the_pipeline_samples_as_written_out(pipe, every, scale):
    actual = pipe(
        "a lake", "fog", num_inference_steps=7, solver="ddim", guidance_scale=scale,
        reuse_every=every,
    )  # fmt: skip
    np.testing.assert_allclose(actual.latents, by_hand(pipe, every, 7, scale), atol=2e-4)


PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
COMBINED = {
    "interval": {"prompt": "a lake", "guidance_interval": (0.2, 0.8)},
    "composed, interval": {"prompt": "a lake AND fog", "guidance_interval": (0.2, 0.8)},
    "anagram": {"anagram": [("a lake", "identity"), ("a hill", "rot180")]},
    "anagram in pixels": {
        "anagram": [("a lake", "identity"), ("a hill", "rot180")],
        "anagram_mode": "pixel",
    },
    "edit": {"prompt": "a lake", "image": PICTURE, "inversion": "ddpm", "strength": 1.0},
}


@pytest.mark.parametrize("name", COMBINED)
def test_reuse_goes_with_everything(pipe, name):
    """One row is computed as without; more are not, and do not depend on how they are watched."""
    given = COMBINED[name]
    one = pipe(**given, num_inference_steps=1)
    reused = pipe(**given, num_inference_steps=1, reuse_every=2)
    np.testing.assert_allclose(reused.latents, one.latents, atol=1e-4)
    reused = pipe(**given, num_inference_steps=4, reuse_every=2)
    assert np.abs(reused.latents - pipe(**given, num_inference_steps=4).latents).max() > 1e-4
    watched = pipe(
        **given, num_inference_steps=4, reuse_every=2, on_preview=lambda p: False, preview_every=1
    )
    np.testing.assert_array_equal(watched.latents, reused.latents)


def test_a_picture_with_its_source_prompt_stays_itself(pipe):
    """The edit-friendly inversion holds with reuse: edit and source reuse alike."""
    same = pipe(
        "a hill", image=PICTURE, inversion="ddpm", source_prompt="a hill", strength=1.0,
        num_inference_steps=6, guidance_scale=1.0, reuse_every=3,
    )  # fmt: skip
    original = coder.encode(pipe.model.autoencoder, pipe.model.autoencoder_params, PICTURE[None])
    np.testing.assert_allclose(same.latents, original, atol=1e-4)


def test_autoguidance_by_itself_is_no_guidance(pipe, folder):
    plain = pipe("a lake", num_inference_steps=4, reuse_every=2)
    itself = pipe(
        "a lake", num_inference_steps=4, reuse_every=2,
        autoguidance_model=str(folder), autoguidance_scale=3.0,
    )  # fmt: skip
    np.testing.assert_allclose(itself.latents, plain.latents, atol=1e-3)


def test_an_image_does_not_depend_on_its_batch(pipe):
    together = pipe("a volcano", num_images=3, num_inference_steps=5, seed=3, reuse_every=2)
    alone = pipe("a volcano", num_inference_steps=5, seed=5, reuse_every=2)
    np.testing.assert_allclose(alone.latents[0], together.latents[2], atol=1e-5)


def test_the_programmatic_sampler_reuses_too(pipe):
    result = pipe("a glacier", num_inference_steps=4, seed=4, reuse_every=2)
    sample = pipe.sampler(num_inference_steps=4, reuse_every=2)
    text, keys = pipe.encode(["a glacier"], [""]), sampling.image_keys(jnp.array([4], jnp.uint32))
    params = pipe.model.params["ema"]
    np.testing.assert_allclose(sample(params, text, keys), result.latents, atol=1e-4)


@pytest.mark.parametrize("value", [0, -1, 1001, True])
def test_bad_values_name_the_parameter(pipe, value):
    with pytest.raises(ValueError, match="reuse_every must be an integer from 1 to 1000"):
        pipe("a lake", reuse_every=value)


def test_a_transformer_has_nothing_to_reuse(pipe, tmp_path):
    tiny_model.save(tmp_path, "dit")
    transformer = Pipeline.load(tmp_path)
    message = "reuse_every must be 1 with the model"
    with pytest.raises(ValueError, match=message):
        transformer("a lake", reuse_every=2)
    with pytest.raises(ValueError, match=message):
        transformer.sampler(reuse_every=2)
    with pytest.raises(ValueError, match=message):
        pipe("a lake", reuse_every=2, autoguidance_model=str(tmp_path))
