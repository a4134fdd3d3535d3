"""Height and width: what the model allows, and pictures that are not square in every task."""

import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.checks import ParameterError
from dg2_jax.diffusion import sampling, views
from dg2_jax.generation import coder
from dg2_jax.pictures import image_input, images, masks

HEIGHT, WIDTH = 32, 48
SIZE = {"height": HEIGHT, "width": WIDTH}


@pytest.fixture(scope="module")
def wide():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(0).uniform(0, 40, (HEIGHT, WIDTH, 3))
    return (np.stack([5 * x, 6 * y, 240 - 5 * x], -1) * 0.8 + noise).astype(np.uint8)


def encoded(pipe, picture):
    model = pipe.model
    return np.asarray(coder.encode(model.autoencoder, model.autoencoder_params, picture[None]))


def test_the_model_s_own_size_is_the_default(pipe):
    own = pipe("a lake", num_inference_steps=2)
    np.testing.assert_array_equal(
        pipe("a lake", num_inference_steps=2, height=32, width=32).images, own.images
    )
    assert (own.settings.height, own.settings.width) == (32, 32)
    tall = pipe("a lake", num_inference_steps=2, height=48)
    assert tall.images.shape == (1, 48, 32, 3)


def test_txt2img_starts_from_noise_of_its_shape_and_each_image_from_its_own(pipe):
    together = pipe("a lake", num_images=2, seed=3, num_inference_steps=3, **SIZE)
    assert together.images.shape == (2, HEIGHT, WIDTH, 3)
    assert together.latents.shape == (2, 4, 6, 4)
    alone = pipe("a lake", seed=4, num_inference_steps=3, **SIZE)
    np.testing.assert_allclose(alone.latents[0], together.latents[1], atol=1e-5)


def test_the_sampler_makes_the_same_latents(pipe):
    result = pipe("a glacier", "fog", num_inference_steps=3, seed=4, **SIZE)
    sample = pipe.sampler(num_inference_steps=3, **SIZE)
    keys = sampling.image_keys(jnp.array([4], jnp.uint32))
    latents = sample(pipe.model.params["ema"], pipe.encode(["a glacier"], ["fog"]), keys)
    np.testing.assert_allclose(latents, result.latents, atol=1e-4)


def test_strength_0_is_the_round_trip_of_the_fitted_picture(pipe, picture):
    for mode in ("crop", "pad"):
        fitted = image_input.load_image(picture, WIDTH, HEIGHT, mode)
        result = pipe("", image=picture, strength=0.0, resize_mode=mode, **SIZE)
        model = pipe.model
        decoded = coder.decode(model.autoencoder, model.autoencoder_params, encoded(pipe, fitted))
        np.testing.assert_array_equal(result.images, decoded)


def test_inpainting_keeps_what_is_outside_its_mask(pipe, wide):
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[16:, 32:] = 1.0
    result = pipe(
        "a lake", image=wide, mask=mask, strength=1.0, mask_feather=2.0, num_inference_steps=3,
        **SIZE,
    )  # fmt: skip
    changed = np.abs(result.images[0].astype(int) - wide).max(-1)
    assert changed[:8].max() == changed[:, :24].max() == 0
    assert changed[16:, 32:].max() > 10


def test_outpainting_keeps_the_inner_picture(pipe, wide):
    border = (16, 0, 0, 8)
    result = pipe(
        "a lake", image=wide, outpaint=border, strength=1.0, mask_feather=3.0,
        num_inference_steps=3, **SIZE,
    )  # fmt: skip
    canvas, new = masks.outpaint_canvas(wide, border, WIDTH, HEIGHT)
    assert canvas.shape == (HEIGHT, WIDTH, 3)
    kept = np.s_[: HEIGHT - 8 - 3, 16 + 3 :]
    np.testing.assert_array_equal(result.images[0][kept], canvas[kept])
    assert np.abs(result.images[0].astype(int) - canvas)[new > 0].max() > 10


@pytest.mark.parametrize("inversion", ["ddim", "ddpm"])
def test_inversions_return_a_picture_of_the_size(pipe, wide, inversion):
    result = pipe(
        "a meadow", image=wide, inversion=inversion, source_prompt="a meadow", strength=0.6,
        guidance_scale=1.0, num_inference_steps=5, **SIZE,
    )  # fmt: skip
    if inversion == "ddpm":
        np.testing.assert_allclose(result.latents, encoded(pipe, wide), atol=1e-4)
    assert result.images.shape == (1, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("mode", ["latent", "pixel"])
def test_anagrams_take_the_views_of_any_shape(pipe, mode):
    pairs = [("a lake", "identity"), ("a volcano", "rot180"), ("hills", "flip_vertical")]
    result = pipe(anagram=pairs, anagram_mode=mode, num_inference_steps=2, **SIZE)
    assert result.images.shape == (1, HEIGHT, WIDTH, 3)
    same = pipe(
        anagram=[("a lake", "identity")] * 2, anagram_mode=mode, num_inference_steps=2, **SIZE
    )
    if mode == "latent":
        plain = pipe("a lake", num_inference_steps=2, **SIZE)
        np.testing.assert_allclose(same.latents, plain.latents, atol=2e-3)
    assert np.abs(result.latents - same.latents).max() > 1e-3


@pytest.mark.parametrize("view", sorted(set(views.VIEWS) - set(views.ANY_SHAPE)))
@pytest.mark.parametrize("mode", ["latent", "corrected", "pixel"])
def test_views_that_need_a_square_refuse_by_name(pipe, view, mode):
    pairs = [("a lake", "identity"), ("a volcano", view)]
    for size in (SIZE, {"width": HEIGHT // 2}, {"height": 2 * HEIGHT}):
        with pytest.raises(ParameterError, match=f"anagram must use views among .*'{view}'") as e:
            pipe(anagram=pairs, anagram_mode=mode, **size)
        assert e.value.name == "anagram"
        for name in views.ANY_SHAPE:
            assert name in str(e.value)


def test_squares_that_a_view_cannot_divide_refuse_by_name(pipe):
    """Six latent cells a side are no four pieces."""
    for view in ("jigsaw", "patch_permutation"):
        with pytest.raises(ParameterError, match=f"anagram does not fit the size: .*{view}"):
            pipe(anagram=[("a", "identity"), ("b", view)], height=48, width=48)


@pytest.mark.parametrize("view", views.ANY_SHAPE)
def test_a_view_of_any_shape_reads_right_after_it_was_turned_back(view):
    """Each keeps the picture's shape, and is its own inverse."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 24, 40, 3), np.uint8)
    seen = views.apply_to_images(picture, view)
    assert seen.shape == picture.shape
    np.testing.assert_array_equal(views.apply_to_images(seen, view), picture)
    assert (view == "identity") == np.array_equal(seen, picture)


@pytest.mark.parametrize(("mode", "shape"), [("linear", (4, 6)), ("vae", (HEIGHT, WIDTH))])
def test_previews_have_the_shape_of_the_picture(pipe, mode, shape):
    seen = []
    pipe(
        "a lake", num_inference_steps=2, preview_every=1, preview_mode=mode, **SIZE,
        on_preview=lambda preview: seen.append(preview.images.shape),
    )  # fmt: skip
    assert seen == [(1, *shape, 3)] * 2


def test_an_enlarged_picture_tells_the_size_before_upscaling(pipe, tmp_path):
    options = {"num_inference_steps": 1, "upscale": 2, "upscaler": "animevideov3", **SIZE}
    result = pipe("a lake", **options)
    assert result.images.shape == (1, 2 * HEIGHT, 2 * WIDTH, 3)
    read = images.read_metadata(result.save(tmp_path)[0])
    assert (read["height"], read["width"]) == (HEIGHT, WIDTH)


def test_a_stopped_call_has_no_pictures_of_the_size(pipe):
    result = pipe(
        "a lake", num_inference_steps=2, on_preview=lambda p: True, preview_every=1, **SIZE
    )
    assert result.images.shape == (0, HEIGHT, WIDTH, 3)
    assert result.latents.shape == (0, 4, 6, 4)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"height": 40}, "height must be a multiple of 16 with the model .*; got 40, the nearest"),
        ({"width": 31}, "width must be a multiple of 16 .*; got 31, the nearest is 32"),
        ({"width": 8}, "width must be a multiple of 16 .*; got 8, the nearest is 16"),
        ({"height": 4}, "height must be an integer from 8"),
    ],
)
def test_other_sizes_are_refused_with_the_nearest(pipe, size, message):
    with pytest.raises(ValueError, match=message) as error:
        pipe("a lake", **size)
    assert getattr(error.value, "name", "height") in size
    with pytest.raises(ValueError, match=message):
        pipe.sampler(**size)


def test_what_sides_must_be_multiples_of_follows_from_both_networks(pipe):
    """Halved once by the UNet and eightfold by the autoencoder."""
    assert pipe.model.size_multiple == 16
