"""The controls of the pipeline on a small untrained model: img2img, masks, anagrams, previews."""

import numpy as np
import pytest
from PIL import Image

from dg2_jax.diffusion import views
from dg2_jax.generation import program
from dg2_jax.pictures import images

SIZE = 32  # of the small model's pictures


@pytest.fixture(scope="module")
def picture():
    """A smooth picture with a little texture."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    rng = np.random.default_rng(0)
    pixels = np.stack([x, y, 1 - x], -1) * 200 + rng.uniform(0, 40, (SIZE, SIZE, 3))
    return pixels.astype(np.uint8)


@pytest.fixture(scope="module")
def mask():
    """White in the lower right quarter."""
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[SIZE // 2 :, SIZE // 2 :] = 1.0
    return mask


def round_trip(pipe, picture):
    coder = pipe.model.autoencoder, pipe.model.autoencoder_params
    return np.asarray(program.decode(*coder, program.encode(*coder, picture[None])))[0]


@pytest.mark.parametrize("mode", ["partial", "full"])
def test_strength_0_is_the_round_trip_and_1_is_txt2img(pipe, picture, mode):
    none = pipe("a lake", image=picture, strength=0.0, strength_mode=mode, num_inference_steps=4)
    np.testing.assert_array_equal(none.images[0], round_trip(pipe, picture))
    full = pipe("a lake", image=picture, strength=1.0, strength_mode=mode, num_inference_steps=4)
    plain = pipe("a lake", num_inference_steps=4)
    np.testing.assert_allclose(full.latents, plain.latents, atol=1e-5)


@pytest.mark.parametrize("inversion", ["ddim", "ddpm"])
def test_strength_0_is_the_round_trip_with_an_inversion_too(pipe, picture, inversion):
    none = pipe("a lake", image=picture, strength=0.0, inversion=inversion, num_inference_steps=4)
    np.testing.assert_array_equal(none.images[0], round_trip(pipe, picture))


def test_strength_moves_away_from_the_picture(pipe, picture):
    far = []
    for strength in (0.0, 0.25, 0.5, 1.0):
        latents = pipe("a lake", image=picture, strength=strength, num_inference_steps=8).latents
        origin = pipe("", image=picture, strength=0.0).latents
        far.append(float(np.abs(latents - origin).mean()))
    assert far[0] == 0.0
    assert far == sorted(far)


def test_pictures_of_other_shapes_and_kinds(pipe, picture, tmp_path):
    path = tmp_path / "tall.png"
    Image.fromarray(np.concatenate([picture] * 3)).save(path)
    for source in (path, str(path), Image.open(path), np.asarray(Image.open(path))):
        for mode in ("crop", "pad"):
            result = pipe("hills", image=source, resize_mode=mode, num_inference_steps=2)
            assert result.images.shape == (1, SIZE, SIZE, 3)


def test_outside_the_mask_nothing_changes(pipe, picture, mask):
    result = pipe(
        "a lake", image=picture, mask=mask, strength=1.0, mask_feather=2.0, num_inference_steps=4
    )
    changed = np.abs(result.images[0].astype(int) - picture).max(-1)
    assert changed[: SIZE // 2 - 8].max() == 0
    assert changed[:, : SIZE // 2 - 8].max() == 0
    assert changed[SIZE // 2 :, SIZE // 2 :].max() > 10


def test_resampling_and_soft_masks_matter(pipe, picture, mask):
    common = {"image": picture, "strength": 1.0, "num_inference_steps": 4, "solver": "ddim"}
    plain = pipe("a lake", mask=mask, **common).latents
    for change in ({"num_resamples": 3, "mask": mask}, {"mask": 0.5 * mask}):
        assert np.abs(pipe("a lake", **common, **change).latents - plain).max() > 1e-3


def test_outpainting_keeps_the_inner_picture(pipe, picture):
    result = pipe(
        "a lake", image=picture, outpaint=(8, 0, 8, 0), strength=1.0, num_inference_steps=3
    )
    assert result.images.shape == (1, SIZE, SIZE, 3)


@pytest.mark.parametrize("inversion", ["ddim", "ddpm"])
def test_inversion_with_the_source_prompt_returns_the_picture(pipe, picture, inversion):
    result = pipe(
        "a meadow", image=picture, inversion=inversion, source_prompt="a meadow",
        guidance_scale=1.0, strength=0.6, num_inference_steps=8, spacing="linspace",
    )  # fmt: skip
    origin = pipe("", image=picture, strength=0.0)
    error = np.abs(result.latents - origin.latents).mean()
    # DDIM inversion is exact for a well-behaved denoiser (test_inversion), not for a random one.
    noised = pipe(
        "a meadow", image=picture, solver="ddim", guidance_scale=1.0, strength=0.6,
        num_inference_steps=8, spacing="linspace",
    )  # fmt: skip
    assert error < (
        1e-5 if inversion == "ddpm" else 0.8 * np.abs(noised.latents - origin.latents).mean()
    )
    other = pipe(
        "a volcano", image=picture, inversion=inversion, source_prompt="a meadow",
        guidance_scale=3.0, strength=0.6, num_inference_steps=8, spacing="linspace",
    )  # fmt: skip
    assert np.abs(other.latents - origin.latents).max() > 1e-3


def test_an_anagram_of_one_prompt_is_symmetric(pipe):
    """Both views with the same text: the mean estimate, and so the latent, is its own view."""
    result = pipe(
        anagram=[("a lake", "identity"), ("a lake", "flip_horizontal")],
        num_inference_steps=4,
    )
    plain = pipe("a lake", num_inference_steps=4)
    assert np.abs(result.latents - plain.latents).max() > 1e-3
    assert result.prompts == ("a lake | a lake",)
    assert result.metadata(0)["anagram"] == (("a lake", "identity"), ("a lake", "flip_horizontal"))


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


@pytest.mark.parametrize("mode", ["latent", "corrected", "pixel"])
def test_anagram_modes_and_views(pipe, mode):
    for others in (["rot180"], ["flip_vertical", "negate"], ["rot90", "jigsaw", "skew"]):
        pairs = [("a lake", "identity"), *(("a volcano", view) for view in others)]
        result = pipe(anagram=pairs, anagram_mode=mode, num_inference_steps=2)
        assert result.images.shape == (1, SIZE, SIZE, 3)
        assert np.isfinite(result.latents).all()
        views.apply_to_images(result.images, others[0])


def test_composed_and_weighted_prompts(pipe):
    plain = pipe("a lake", num_inference_steps=3).latents
    composed = pipe("a lake AND a castle :0.5", num_inference_steps=3).latents
    weighted = pipe("a (lake:1.6)", num_inference_steps=3).latents
    assert np.abs(composed - plain).max() > 1e-3
    assert np.abs(weighted - plain).max() > 1e-4
    left_out = pipe("a lake AND a castle :0", num_inference_steps=3).latents
    np.testing.assert_allclose(left_out, plain, atol=1e-4)
    mixed = pipe(["a lake", "a lake AND a castle :0.5"], num_inference_steps=3, seed=[0, 0])
    np.testing.assert_allclose(mixed.latents, np.concatenate([plain, composed]), atol=1e-4)


def test_composed_prompts_without_guidance(pipe):
    plain, left_out, composed = (
        pipe(prompt, guidance_scale=1.0, num_inference_steps=3).latents
        for prompt in ("a lake", "a lake AND a castle :0", "a lake AND a castle :0.5")
    )
    np.testing.assert_allclose(left_out, plain, atol=1e-4)
    assert np.abs(composed - plain).max() > 1e-3


def test_projected_guidance_and_autoguidance(pipe, folder):
    plain = pipe("a lake", num_inference_steps=4).latents
    for change in (
        {"apg_eta": 0.0},
        {"apg_norm_threshold": 0.1},
        {"apg_momentum": -0.5},
        {"autoguidance_model": str(folder), "autoguidance_scale": 2.0, "weights": "raw"},
    ):
        assert np.abs(pipe("a lake", num_inference_steps=4, **change).latents - plain).max() > 1e-4
    itself = pipe(
        "a lake", num_inference_steps=4, autoguidance_model=str(folder), autoguidance_scale=3.0
    )
    np.testing.assert_allclose(itself.latents, plain, atol=1e-3)


def test_no_new_value_compiles_anything(pipe, picture, mask):
    seen = []
    pipe("a lake", num_inference_steps=3)
    pipe("a lake", num_inference_steps=3, on_preview=seen.append)
    before = program.advance._cache_size()
    pipe("a river", image=picture, strength=0.5, num_inference_steps=5, seed=8)
    pipe("a river", image=picture, strength=0.9, mask=mask, num_inference_steps=4)
    pipe("hills", image=picture, mask=1 - mask, solver="ddpm", num_resamples=2)
    pipe("hills", apg_eta=0.3, apg_momentum=-0.4, num_inference_steps=2)
    pipe("hills", on_preview=seen.append, preview_every=2, num_inference_steps=6, seed=3)
    pipe("", image=picture, strength=0.0)
    assert program.advance._cache_size() == before


@pytest.mark.parametrize("mode", ["linear", "vae"])
def test_previews_come_in_order_and_end_at_the_picture(pipe, mode):
    seen = []
    result = pipe(
        "a lake",
        num_images=3,
        num_inference_steps=7,
        on_preview=seen.append,
        preview_every=2,
        preview_mode=mode,
    )
    assert [p.step for p in seen] == [2, 4, 6, 7]
    assert all(p.num_steps == 7 and p.first_image == 0 for p in seen)
    side = SIZE if mode == "vae" else pipe.model.latent_shape[0]
    assert all(p.images.shape == (3, side, side, 3) for p in seen)
    if mode == "vae":
        # The last estimate is the picture itself.
        assert np.abs(seen[-1].images.astype(int) - result.images.astype(int)).max() <= 1
    unseen = pipe("a lake", num_images=3, num_inference_steps=7)
    np.testing.assert_array_equal(unseen.images, result.images)


def test_a_stop_ends_within_one_step(pipe):
    seen = []

    def stop_at_three(shown):
        seen.append(shown.step)
        return shown.step == 3

    result = pipe(
        "a lake", num_images=20, num_inference_steps=50, on_preview=stop_at_three, preview_every=1
    )
    assert seen == [1, 2, 3]
    assert result.stopped
    assert len(result.images) == 0
    assert not pipe("a lake", num_inference_steps=1).stopped


def test_an_error_in_a_watcher_reaches_the_caller(pipe):
    def fail(shown):
        raise RuntimeError("the window is gone")

    with pytest.raises(RuntimeError, match="the window is gone"):
        pipe("a lake", num_inference_steps=3, on_preview=fail)


def test_edits_compose_with_batches_and_seeds(pipe, picture, mask):
    options = {"image": picture, "mask": mask, "strength": 0.8, "num_inference_steps": 5}
    together = pipe("a lake", num_images=3, seed=5, **options)
    alone = pipe("a lake", seed=7, **options)
    np.testing.assert_allclose(alone.latents[0], together.latents[2], atol=1e-5)
    listed = pipe("a lake", num_images=2, seed=[7, 5], **options)
    np.testing.assert_allclose(listed.latents, together.latents[[2, 0]], atol=1e-5)


def test_settings_of_edits_are_kept(pipe, picture, tmp_path):
    result = pipe("a lake", image=picture, strength=0.4, num_inference_steps=3)
    read = images.read_metadata(result.save(tmp_path)[0])
    assert read["strength"] == 0.4
    assert len(read["image"]) == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": 1.5, "image": "PICTURE"}, "strength must be a number from 0"),
        ({"strength_mode": "half"}, "strength_mode must be one of partial, full"),
        ({"mask": "PICTURE"}, "mask needs image"),
        ({"inversion": "ddim"}, "inversion needs image"),
        ({"inversion": "ddxm", "image": "PICTURE"}, "inversion must be one of ddim, ddpm"),
        ({"outpaint": (1, 2, 3)}, "outpaint must be 4 numbers"),
        ({"outpaint": (1, 2, 3, 4)}, "outpaint needs image"),
        ({"num_resamples": 2, "solver": "ddim"}, "num_resamples above 1 needs mask"),
        (
            {"num_resamples": 2, "mask": "PICTURE", "image": "PICTURE"},
            "num_resamples above 1 needs",
        ),
        ({"anagram": [("a", "rot180")], "prompt": ""}, "anagram must be 2 to 4 pairs"),
        ({"anagram": [("a", "rot1")] * 2, "prompt": ""}, "anagram must be one of identity"),
        ({"anagram": [("a", "rot90")] * 2}, "prompt must be left out with anagram"),
        ({"anagram_mode": "sound"}, "anagram_mode must be one of latent"),
        ({"upscale": 3}, "upscale must be one of 2, 4"),
        ({"upscaler": "x9"}, "upscaler must be one of x4plus"),
        ({"preview_every": 0}, "preview_every must be an integer from 1"),
        ({"preview_mode": "full"}, "preview_mode must be one of linear, vae"),
        ({"image": "no/such/file.png"}, "image"),
        ({"image": b"not a picture"}, "image"),
        ({"apg_momentum": 2.0}, "apg_momentum must be a number from -1"),
        ({"autoguidance_scale": 2.0}, "autoguidance_scale other than 1 needs autoguidance_model"),
        ({"prompt": "(a:9)"}, "prompt"),
        ({"negative_prompt": "a AND b"}, "negative_prompt must not hold AND"),
        ({"seed": [1, 2]}, "seed must be one integer, or one for each of the 1 images"),
        ({"mask_feather": -1.0}, "mask_feather must be a number from 0"),
    ],
)
def test_bad_controls_name_the_parameter(pipe, picture, arguments, message):
    arguments = {
        k: picture if isinstance(v, str) and v == "PICTURE" else v for k, v in arguments.items()
    }
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        pipe(**{"prompt": "a lake", **arguments})


def test_the_sampler_takes_no_edits(pipe):
    with pytest.raises(ValueError, match=r"strength is not a parameter of Pipeline\.sampler"):
        pipe.sampler(strength=0.5, anagram=[("a", "rot90"), ("b", "rot180")])
