"""Variations: the initial noise on the arc between those of two seeds."""

import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.checks import ParameterError
from dg2_jax.diffusion import sampling
from dg2_jax.settings import Settings

FEW = {"num_inference_steps": 2, "solver": "ddim"}


def test_strength_goes_from_one_seed_to_the_other(pipe):
    plain = {seed: pipe("x", seed=seed, **FEW).images[0] for seed in (3, 9)}

    def varied(strength, **more):
        controls = {"variation_seed": 9, "variation_strength": strength}
        return pipe("x", seed=3, **controls, **FEW, **more)

    np.testing.assert_array_equal(varied(0.0).images[0], plain[3])
    whole = varied(1.0).images[0].astype(int)
    assert np.abs(whole - plain[9]).max() <= 1
    middle = varied(0.5).images[0]
    assert (middle != plain[3]).any()
    assert (middle != plain[9]).any()
    several = varied(0.5, num_images=3)
    assert np.abs(several.images[0].astype(int) - middle).max() <= 1
    assert several.seeds == (3, 4, 5)


def test_a_source_image_and_the_sampler_are_varied_too(pipe):
    source = np.full((pipe.model.default_size,) * 2 + (3,), 128, np.uint8)
    made = [
        pipe("x", image=source, strength=0.8, seed=3, variation_seed=9, variation_strength=s, **FEW)
        for s in (0.0, 1.0)
    ]
    other = pipe("x", image=source, strength=0.8, seed=9, **FEW)
    assert np.abs(made[1].latents - other.latents).max() < 1e-3
    assert np.abs(made[0].latents - other.latents).max() > 1e-2
    text, keys = pipe.encode(["x"], [""]), sampling.image_keys(jnp.asarray([3], jnp.uint32))
    sample = pipe.sampler(**FEW, variation_seed=9, variation_strength=1.0)
    expected = pipe.sampler(**FEW)(
        pipe.model.params["ema"], text, sampling.image_keys(jnp.asarray([9], jnp.uint32))
    )
    found = sample(pipe.model.params["ema"], text, keys)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_what_has_no_single_initial_noise_is_refused():
    views = [("a", "identity"), ("b", "rot180")]
    for other in ({"anagram": views}, {"inversion": "ddim"}):
        with pytest.raises(ParameterError, match="variation_strength above 0"):
            Settings(variation_strength=0.1, **other)
