"""The pipeline on small Stable Diffusion models: every control, and diffusers' recorded runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.checks import ParameterError
from dg2_jax.diffusion import sampling
from dg2_jax.generation import call, drivers
from dg2_jax.generation.inputs import Source
from dg2_jax.pipeline import Pipeline
from dg2_jax.text.prompt_syntax import literal
from tests.sd_models import GOLDEN, PROMPTS, inpainting, reference, relative_error

FEW = {"num_inference_steps": 3, "seed": 5}
SIZE = 32  # pixels, of the two small ones


@functools.cache
def loaded(name):
    return Pipeline.load(GOLDEN / name)


@pytest.fixture(params=["sd2_small", "xl_small"])
def name(request):
    return request.param


@pytest.fixture
def pipe(name):
    return loaded(name)


def from_noise(pipe, noise, prompt, negative, **controls):
    """The latents of a call that starts from given noise."""
    from dg2_jax import settings as settings_lib

    size = dict.fromkeys(("height", "width"), noise.shape[1] * pipe.model.size_multiple)
    settings = settings_lib.for_model(pipe.model, **size, **controls)
    plan, weights = call.plan_for(pipe.model, settings, call.WeakerModels())
    source = Source.noise(plan.latent_shape)
    one, zero = np.float32(1), np.float32(0)
    source = source._replace(start=jax.device_put(noise), alpha=one, sigma=zero)
    keys = jax.vmap(jax.random.key)(np.zeros(1, np.uint32))
    inputs = plan.inputs(
        source, pipe.encode([prompt], [negative]), np.ones((1, 1), np.float32), keys
    )
    return drivers.generate(plan.program, weights, inputs, plan.num_rows)[0]


@pytest.mark.parametrize("name", ["sd1_tiny", "sd2_small", "xl_small"], indirect=True)
def test_a_guided_run_is_diffusers_own(pipe, name):
    given = reference(name)
    steps, scale = (8, 5.0) if name == "sd1_tiny" else (5, 4.0)
    controls = {"num_inference_steps": steps, "guidance_scale": scale, "solver": "ddim"}
    latents = from_noise(pipe, given["noise"], *map(literal, PROMPTS[:2]), **controls)
    assert relative_error(latents, given["ddim_latent"]) < 1e-3


@pytest.mark.parametrize("controls", [{}, {"guidance_scale": 1.0}, {"solver": "heun"}])
def test_an_image_depends_on_its_seed_and_not_on_its_batch(pipe, name, controls):
    prompts = ["a lake", "a lake at dawn BREAK snow", "snow"]
    together = pipe(prompts, **FEW, **controls)
    assert together.images.shape == (3, SIZE, SIZE, 3)
    for i, prompt in enumerate(prompts):
        alone = pipe(prompt, **{**FEW, "seed": 5 + i}, **controls)
        np.testing.assert_allclose(alone.latents[0], together.latents[i], atol=2e-4)


def test_defaults_are_the_model_s(pipe, name):
    settings = pipe("a lake", num_inference_steps=2).settings
    assert settings.guidance_scale == (5.0 if name == "xl_small" else 7.5)
    assert settings.solver == "ddim"
    assert (settings.height, settings.width) == (SIZE, SIZE)


def test_every_way_of_editing(pipe, name):
    side = SIZE
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[: side // 2] = 255
    changed = pipe("a lake", image=image, strength=0.7, **FEW)
    painted = pipe("a lake", image=image, mask=mask, mask_feather=0.0, **FEW)
    assert (painted.images[0, side // 2 :] == image[side // 2 :]).all()
    assert (painted.images[0, : side // 2] != image[: side // 2]).any()
    wider = pipe("a lake", image=image, outpaint=(0, 0, 8, 0), **FEW)
    inverted = pipe("a lake", image=image, inversion="ddpm", source_prompt="snow", **FEW)
    for result in (changed, painted, wider, inverted):
        assert result.images.shape == (1, side, side, 3)
        assert np.isfinite(result.latents).all()
    anagram = (("a lake", "identity"), ("snow", "rot180"))
    for mode in ("latent", "pixel"):
        assert pipe(anagram=anagram, anagram_mode=mode, **FEW).images.any()


def test_previews_and_a_stop(pipe, name):
    seen = []

    def look(preview):
        seen.append(preview.images.shape)
        return preview.step >= 2

    result = pipe("a lake", on_preview=look, preview_every=1, preview_mode="vae", **FEW)
    assert result.stopped
    assert seen == [(1, SIZE, SIZE, 3)] * 2


def test_an_inpainting_model_is_given_mask_and_picture(tmp_path):
    pipe, plain = Pipeline.load(inpainting(tmp_path / "inpaint")), loaded("sd2_small")
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:16] = 255
    painted = pipe("a lake", image=image, mask=mask, mask_feather=0.0, **FEW)
    assert (painted.images[0, 16:] == image[16:]).all()
    other = image.copy()
    other[16:] = 255 - other[16:]
    # What the mask leaves reaches what is repainted by the further channels alone at one step.
    one = {"num_inference_steps": 1, "seed": 5, "mask": mask, "strength": 1.0}
    upper = [
        p("a lake", image=i, **one).latents[0, :8] for p in (pipe, plain) for i in (image, other)
    ]
    assert np.abs(upper[0] - upper[1]).max() > 1e-3
    np.testing.assert_allclose(upper[2], upper[3], atol=1e-4)
    assert pipe("a lake", **FEW).images.shape == (1, SIZE, SIZE, 3)
    assert pipe("a lake", image=image, strength=0.6, **FEW).images.shape == (1, SIZE, SIZE, 3)
    anagram = (("a lake", "identity"), ("snow", "rot180"))
    assert pipe(anagram=anagram, **FEW).images.any()
    with pytest.raises(ParameterError, match="mask cannot be combined with anagram"):
        pipe(anagram=anagram, image=image, mask=mask, **FEW)
    with pytest.raises(ValueError, match="is an in-painting model"):
        pipe.sampler(num_inference_steps=2)


def test_the_programmatic_sampler_is_the_same_function(pipe):
    result = pipe("a lake", "snow", guidance_scale=3.0, **FEW)
    sample = pipe.sampler(num_inference_steps=3, guidance_scale=3.0)
    text, keys = pipe.encode(["a lake"], ["snow"]), sampling.image_keys(jnp.array([5], jnp.uint32))
    np.testing.assert_allclose(
        sample(pipe.model.params["ema"], text, keys), result.latents, atol=2e-4
    )


def test_prompts_weighted_joined_and_empty(pipe, name):
    plain, strong, zero = (
        pipe(prompt, **FEW).latents for prompt in ("a lake", "a (lake:1.5)", "a (lake:1.0)")
    )
    np.testing.assert_array_equal(plain, zero)
    assert np.abs(plain - strong).max() > 1e-3
    both = pipe("a lake AND snow :0.5", **FEW).latents
    assert np.abs(plain - both).max() > 1e-3
    encoder = pipe.text_encoder
    context, _, pooled = encoder.encode(["", "a lake"])
    zeros = name == "xl_small"  # which was trained so
    assert [bool(np.any(row)) for row in context] == [not zeros, True]
    if pooled is not None:
        assert [bool(np.any(row)) for row in pooled] == [False, True]


def test_weights_restore_the_mean_of_each_encoder_s_chunk(pipe):
    encoder = pipe.text_encoder
    context, mask, _ = encoder.encode(["a lake BREAK snow"])
    weights = np.ones(context.shape[:2], np.float32)
    weights[0, 2] = 1.6
    found = np.asarray(encoder.weighted(context, jnp.asarray(weights), mask), np.float64)
    before, length = np.asarray(context, np.float64), encoder.encoders.length
    np.testing.assert_allclose(found[:, length:], before[:, length:], atol=1e-5)
    begin = 0
    for width in encoder.encoders.widths:
        chunk = before[0, :length, begin : begin + width]
        scaled = chunk * weights[0, :length, None]
        expected = (
            scaled * chunk.mean() / scaled.mean() if scaled.mean() * chunk.mean() > 0 else scaled
        )
        np.testing.assert_allclose(found[0, :length, begin : begin + width], expected, atol=1e-4)
        begin += width


def test_clip_skip_and_sizes_change_the_picture(pipe, name):
    plain = pipe("a lake", **FEW).latents
    assert np.abs(pipe("a lake", clip_skip=1, **FEW).latents - plain).max() > 1e-3
    with pytest.raises(ParameterError, match="clip_skip must be an integer from 0 to"):
        pipe("a lake", clip_skip=11, **FEW)
    sizes = {"original_size": (16, 16), "crops_coords_top_left": (0, 8), "target_size": (64, 64)}
    if name == "xl_small":
        for key, value in sizes.items():
            assert np.abs(pipe("a lake", **{key: value}, **FEW).latents - plain).max() > 1e-4
        spelt = {"original_size": (SIZE, SIZE), "target_size": (SIZE, SIZE)}
        np.testing.assert_array_equal(pipe("a lake", **spelt, **FEW).latents, plain)
    else:
        with pytest.raises(ParameterError, match="original_size is no control of the model"):
            pipe("a lake", **sizes, **FEW)


def test_large_pictures_go_in_tiles(pipe, name):
    large = {**FEW, "num_inference_steps": 1, "height": 144, "width": 96}  # 72 x 48 cells
    whole, tiled = (pipe("a lake", vae_tiling=on, **large) for on in (False, True))
    np.testing.assert_array_equal(whole.latents, tiled.latents)
    difference = np.abs(whole.images.astype(np.float32) - tiled.images)
    assert 0 < difference.mean() < 0.1 * whole.images.std()
    image = whole.images[0]
    kept = [
        pipe("a lake", image=image, strength=0.0, vae_tiling=on, **large) for on in (False, True)
    ]
    assert np.abs(kept[0].latents - kept[1].latents).mean() < 0.1 * kept[0].latents.std()
    small = [pipe("a lake", vae_tiling=on, **FEW).images for on in (False, True)]
    np.testing.assert_array_equal(*small)
    assert tiled.settings.vae_tiling
    seen = []
    pipe("a lake", vae_tiling=True, on_preview=seen.append, preview_mode="vae", **large)
    shown = seen[-1].images.astype(np.float32)  # of x₀, where XL stops a little before
    assert np.abs(shown - tiled.images).mean() < 2.0
