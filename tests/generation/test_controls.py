"""What each control means, on a small untrained model whose estimates can be had one by one.

One step of DDIM from pure noise ends in the guided estimate of x₀ itself, so that one step under
each control is compared with the algebra of the paper on unguided estimates.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.generation import text
from dg2_jax.models import folder as model
from dg2_jax.nn.unet import UNet, UNetConfig
from dg2_jax.pipeline import Pipeline
from tests import tiny_model
from tests.networks import random_params

STEP = {"num_inference_steps": 1, "solver": "ddim"}


def estimate(pipe, prompt, negative="", **controls):
    return np.asarray(pipe(prompt, negative, **STEP, **controls).latents, np.float64)


@pytest.fixture(scope="module")
def conditional(pipe):
    return estimate(pipe, "a lake", guidance_scale=1.0)


@pytest.fixture(scope="module")
def negative(pipe):
    return estimate(pipe, "rain", guidance_scale=1.0)


def test_none_is_an_empty_prompt(pipe):
    empty = pipe("", "", **STEP)
    for given in ((None, None), ("", None), (None, "")):
        made = pipe(*given, **STEP)
        np.testing.assert_array_equal(made.images, empty.images)
        assert (made.prompts, made.negative_prompts) == (("",), ("",))
    views = [("a lake", "identity"), ("a hill", "rot90")]
    anagram = pipe(None, anagram=views, **STEP).images
    np.testing.assert_array_equal(anagram, pipe(anagram=views, **STEP).images)


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_guidance_moves_from_the_negative_prompt_through_the_prompt(
    pipe, conditional, negative, scale
):
    guided = estimate(pipe, "a lake", "rain", guidance_scale=scale)
    expected = negative + scale * (conditional - negative)
    np.testing.assert_allclose(guided, expected, atol=1e-4)


def test_no_negative_prompt_is_the_learnt_null_text_and_not_that_of_an_empty_prompt(pipe):
    """The null text of the network is in its weights: another set has another."""
    null = estimate(pipe, "", guidance_scale=1.0)
    guided = estimate(pipe, "a lake", guidance_scale=0.0)
    np.testing.assert_allclose(guided, null, atol=1e-5)
    texts = pipe.encode(["", "a lake"], ["rain", " "])
    np.testing.assert_array_equal(texts.prompt.is_null, [True, False])
    np.testing.assert_array_equal(texts.negative_prompt.is_null, [False, True])


def test_rescaled_guidance_has_the_deviation_of_the_prompt_s_estimate(pipe, conditional):
    options = {"negative": "rain", "guidance_scale": 9.0}
    plain = estimate(pipe, "a lake", **options)
    rescaled = estimate(pipe, "a lake", guidance_rescale=1.0, **options)
    np.testing.assert_allclose(rescaled, plain * conditional.std() / plain.std(), atol=1e-4)
    half = estimate(pipe, "a lake", guidance_rescale=0.5, **options)
    np.testing.assert_allclose(half, (plain + rescaled) / 2, atol=1e-4)


def test_guidance_acts_within_its_interval_of_noise_levels_only(pipe, conditional):
    """Sampling starts at σ near 1, where an interval up to 0.5 does not reach."""
    outside = estimate(pipe, "a lake", "rain", guidance_scale=5.0, guidance_interval=(0.0, 0.5))
    np.testing.assert_allclose(outside, conditional, atol=1e-5)
    options = {"num_inference_steps": 4, "guidance_scale": 5.0}
    everywhere = pipe("a lake", "rain", guidance_interval=(0.0, 1.0), **options)
    np.testing.assert_allclose(
        everywhere.latents, pipe("a lake", "rain", **options).latents, atol=1e-4
    )


def test_projected_guidance_drops_the_parallel_part_and_caps_the_norm(pipe, conditional, negative):
    direction, unit = conditional - negative, conditional / np.linalg.norm(conditional)
    orthogonal = direction - (direction * unit).sum() * unit
    guided = estimate(pipe, "a lake", "rain", guidance_scale=4.0, apg_eta=0.0)
    np.testing.assert_allclose(guided, conditional + 3.0 * orthogonal, atol=1e-4)
    capped = estimate(pipe, "a lake", "rain", guidance_scale=4.0, apg_norm_threshold=0.1)
    expected = conditional + 3.0 * 0.1 * direction / np.linalg.norm(direction)
    np.testing.assert_allclose(capped, expected, atol=1e-4)


def test_momentum_acts_from_the_second_step_on(pipe, conditional, negative):
    first = estimate(pipe, "a lake", "rain", guidance_scale=4.0, apg_momentum=-0.5)
    np.testing.assert_allclose(first, conditional + 3.0 * (conditional - negative), atol=1e-4)
    two = {"num_inference_steps": 2, "solver": "ddim", "guidance_scale": 4.0}
    with_momentum = pipe("a lake", "rain", apg_momentum=-0.5, **two).latents
    assert np.abs(with_momentum - pipe("a lake", "rain", **two).latents).max() > 1e-3


def test_autoguidance_moves_away_from_the_weaker_model(pipe, conditional, tmp_path):
    tiny_model.save(tmp_path)
    config = UNetConfig(4, (8, 16), attention_levels=(False, True), head_dim=8, norm_groups=4)
    params = random_params(lambda rngs: UNet(config, rngs=rngs), 9)
    model.add_weights(tmp_path, "ema", params, {}, jnp.float32)
    weaker = estimate(Pipeline.load(tmp_path), "a lake", guidance_scale=1.0)
    options = {"autoguidance_model": str(tmp_path), "guidance_scale": 1.0}
    guided = estimate(pipe, "a lake", autoguidance_scale=3.0, **options)
    np.testing.assert_allclose(guided, weaker + 3.0 * (conditional - weaker), atol=1e-4)
    both = estimate(pipe, "a lake", autoguidance_scale=1.0, **options)
    np.testing.assert_allclose(both, conditional, atol=1e-5)


def test_the_noise_of_ddim_grows_to_that_of_the_ancestral_sampler(pipe):
    options = {"num_inference_steps": 4}
    ancestral = pipe("a lake", solver="euler_ancestral", **options).latents
    full = pipe("a lake", solver="ddim", eta=1.0, **options).latents
    np.testing.assert_allclose(full, ancestral, atol=1e-5)
    none = pipe("a lake", solver="ddim", **options).latents
    np.testing.assert_allclose(pipe("a lake", solver="euler", **options).latents, none, atol=1e-5)
    assert np.abs(full - none).max() > 1e-2


def test_composed_prompts_add_their_directions(pipe, conditional):
    null, castle = (estimate(pipe, p, guidance_scale=1.0) for p in ("", "a castle"))
    composed = estimate(pipe, "a lake AND a castle :0.5", guidance_scale=2.0)
    expected = null + 2.0 * ((conditional - null) + 0.5 * (castle - null))
    np.testing.assert_allclose(composed, expected, atol=1e-4)
    unguided = estimate(pipe, "a lake AND a castle :0.5", guidance_scale=1.0)
    np.testing.assert_allclose(unguided, conditional + 0.5 * (castle - null), atol=1e-4)


def test_a_composed_prompt_of_weight_0_is_left_out_also_in_a_batch_of_others(pipe):
    plain = pipe("a lake", num_inference_steps=3).latents
    composed = pipe("a lake AND a castle :0.5", num_inference_steps=3).latents
    left_out = pipe("a lake AND a castle :0", num_inference_steps=3).latents
    np.testing.assert_allclose(left_out, plain, atol=1e-4)
    mixed = pipe(["a lake", "a lake AND a castle :0.5"], num_inference_steps=3, seed=[0, 0])
    np.testing.assert_allclose(mixed.latents, np.concatenate([plain, composed]), atol=1e-4)


def test_weighted_words_move_their_tokens_and_weight_1_does_not(pipe):
    plain, one, heavy = (
        pipe.encode([prompt], [""]).prompt for prompt in ("a lake", "a (lake:1.0)", "a (lake:1.6)")
    )
    np.testing.assert_array_equal(plain.context, one.context)
    np.testing.assert_array_equal(plain.mask, heavy.mask)
    moved = np.abs(np.asarray(heavy.context - plain.context)).max(-1)[0]
    words = np.flatnonzero(moved > 1e-6)
    assert len(words) == 1  # "lake" is one token
    np.testing.assert_array_equal(heavy.pooled, plain.pooled)


def test_texts_carry_the_sentence_vectors_of_their_prompts(pipe):
    texts = pipe.encode(["a lake", "a volcano"], ["rain", "a lake"])
    pooled = np.asarray(pipe.text_encoder.encode(["a lake", "a volcano", "rain"]).pooled)
    np.testing.assert_allclose(texts.prompt.pooled, pooled[:2], atol=1e-6)
    np.testing.assert_allclose(texts.negative_prompt.pooled, pooled[[2, 0]], atol=1e-6)


def test_prompts_are_ordered_prompt_by_prompt_where_they_are_composed(pipe):
    prompts, negatives = ["a AND b :0.5", "c"], ["", ""]
    texts, weights = text.compose(pipe.text_encoder, prompts, negatives, 2)
    np.testing.assert_array_equal(weights, [[1.0, 0.5], [1.0, 0.0]])
    alone = pipe.encode(["a", "c", "b", ""], [""] * 4)
    np.testing.assert_allclose(texts.prompt.context, alone.prompt.context, atol=1e-4)
    np.testing.assert_array_equal(texts.prompt.is_null, [False, False, False, True])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": 1.5, "image": "PICTURE"}, "strength must be a number from 0"),
        ({"strength_mode": "half"}, "strength_mode must be one of partial, full"),
        ({"mask": "PICTURE"}, "mask needs image"),
        ({"inversion": "ddim"}, "inversion needs image"),
        ({"inversion": "ddxm", "image": "PICTURE"}, "inversion must be one of ddim, ddpm"),
        (
            {"inversion": "ddpm", "image": "PICTURE", "mask": "PICTURE"},
            "mask cannot be combined with inversion",
        ),
        ({"outpaint": (1, 2, 3)}, "outpaint must be 4 numbers"),
        ({"outpaint": (1, 2, 3, 4)}, "outpaint needs image"),
        (
            {"outpaint": (30, 0, 0, 0), "image": "PICTURE"},
            "outpaint must add pixels and leave at least 4 of 32",
        ),
        ({"num_resamples": 2, "solver": "ddim"}, "num_resamples above 1 needs mask"),
        (
            {"num_resamples": 2, "mask": "PICTURE", "image": "PICTURE"},
            "num_resamples above 1 needs",
        ),
        ({"anagram": [("a", "rot180")], "prompt": ""}, "anagram must be 2 to 4 pairs"),
        ({"anagram": [("a", "rot1")] * 2, "prompt": ""}, "anagram must be one of identity"),
        ({"anagram": [("a", "rot90")] * 2}, "prompt must be left out with anagram"),
        (
            {"anagram": [("a AND b", "rot90"), ("c", "identity")], "prompt": ""},
            "anagram must not hold AND here",
        ),
        ({"anagram_mode": "sound"}, "anagram_mode must be one of latent"),
        ({"upscale": 3}, "upscale must be one of 1, 2, 4"),
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
    with pytest.raises(ValueError, match="is not a parameter of Pipeline"):
        pipe.sampler(strength=0.5, anagram=[("a", "rot90"), ("b", "rot180")])


def test_encode_takes_one_prompt_per_image(pipe):
    with pytest.raises(ValueError, match="prompt must not hold AND here"):
        pipe.encode(["a AND b"], [""])
