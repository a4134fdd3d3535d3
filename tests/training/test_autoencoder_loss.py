import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.ndimage import gaussian_filter

from dg2_jax.evaluation.metrics import (
    equivariance_error,
    gradient_energy,
    psnr,
    sharpness,
    ssim,
)
from dg2_jax.nn.autoencoder import AutoencoderKL, Posterior
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.training.autoencoder import (
    TRANSFORMS,
    LossWeights,
    autoencoder_loss,
    gradient_error,
    transform_tail,
)
from tests.networks import random_network

SMALL = AutoencoderConfig(
    block_out_channels=(8, 8),
    layers_per_block=1,
    decoder_layers_per_block=1,
    norm_num_groups=4,
    mid_block_add_attention=False,
    patch_size=2,
    head_channels=4,
    downsample="symmetric",
)


class Blocks(AutoencoderKL):
    """Means and copies of 2x2 pixels: equivariant by construction, and almost without noise."""

    def __init__(self):
        pass

    def encode(self, pixels):
        b, h, w, c = pixels.shape
        mean = pixels.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
        return Posterior(mean, jnp.full_like(mean, -30.0))

    def decode(self, latents):
        return latents.repeat(2, axis=1).repeat(2, axis=2)


class ShiftedBlocks(Blocks):
    """The same, moved by a pixel to the right: no longer equivariant."""

    def decode(self, latents):
        return jnp.roll(super().decode(latents), 1, axis=2)


def images(seed=0, shape=(4, 16, 16, 3)):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0, maxval=1.0)


def test_gradient_error_of_a_ramp_is_the_closed_form():
    # The error rises by 0.01 per pixel along one axis: 0.01, 0.02 and 0.04 per step at scales 1, 2,
    # 4.
    a = images()
    ramp = 0.01 * jnp.arange(16.0)[None, :, None, None]
    np.testing.assert_allclose(gradient_error(a + ramp, a), 0.07 / 3, rtol=1e-4)


def test_gradient_error_ignores_brightness_and_is_zero_for_equal_images():
    a = images()
    assert gradient_error(a, a) == 0.0
    np.testing.assert_allclose(gradient_error(a + 0.5, a), 0.0, atol=1e-6)


def test_tail_of_a_batch_is_transformed_alike_and_every_transform_is_drawn():
    a, b = images(1), images(2)
    draw = jax.jit(lambda key: transform_tail(key, 0.5, a, b))
    drawn = set()
    for seed in range(40):
        new_a, new_b = draw(jax.random.key(seed))
        np.testing.assert_array_equal(new_a[:2], a[:2])
        (which,) = (i for i, f in enumerate(TRANSFORMS) if jnp.array_equal(f(a[2:]), new_a[2:]))
        np.testing.assert_array_equal(new_b[2:], TRANSFORMS[which](b[2:]))
        drawn.add(which)
    assert drawn == set(range(len(TRANSFORMS)))


def test_loss_is_the_weighted_sum_and_its_gradients_are_finite():
    weights = LossWeights(squared=2.0, absolute=3.0, gradient=0.5, kl=0.25)
    graphdef, params = nnx.split(random_network(lambda rngs: AutoencoderKL(SMALL, rngs=rngs)))

    @jax.jit
    @jax.value_and_grad
    def value(params):
        vae = nnx.merge(graphdef, params)
        loss, parts = autoencoder_loss(vae, images(), jax.random.key(5), weights)
        total = sum(getattr(weights, name) * part for name, part in parts.items())
        # Fails the comparison below, not the trace, if the parts do not add up.
        return jnp.where(jnp.abs(loss - total) < 1e-5 * loss, loss, jnp.nan)

    loss, gradients = value(params)
    assert jnp.isfinite(loss)
    norms = [float(jnp.linalg.norm(g.ravel())) for g in jax.tree.leaves(gradients)]
    assert np.isfinite(norms).all()
    assert min(norms) > 0.0


def test_equivariance_costs_an_equivariant_model_nothing_and_others_something():
    key, pixels = jax.random.key(0), images()

    def loss(vae, share):
        return autoencoder_loss(vae, pixels, key, LossWeights(equivariant_share=share))[0]

    np.testing.assert_allclose(loss(Blocks(), 1.0), loss(Blocks(), 0.0), rtol=1e-4)
    smooth = jnp.broadcast_to(jnp.linspace(-1, 1, 16)[None, None, :, None], pixels.shape)
    view = TRANSFORMS[1]
    assert equivariance_error(Blocks(), pixels, view) == 0.0
    # Shifted right by one, then turned: two pixels apart, on a ramp of blocks two pixels wide.
    shifted = ShiftedBlocks()
    z = np.asarray(Blocks().decode(Blocks().encode(smooth).mode()))
    turned = z[:, ::-1, ::-1]
    expected = np.sum((np.roll(turned, 1, 2) - np.roll(turned, -1, 2)) ** 2) / np.sum(z**2)
    np.testing.assert_allclose(equivariance_error(shifted, smooth, view), expected, rtol=1e-4)
    assert expected > 0.01


def test_pictures_that_are_not_square_are_refused_where_they_would_be_turned():
    vae, wide = (
        random_network(lambda rngs: AutoencoderKL(SMALL, rngs=rngs)),
        images(shape=(2, 8, 16, 3)),
    )
    loss, _ = autoencoder_loss(vae, wide, jax.random.key(0), LossWeights(equivariant_share=0.0))
    assert jnp.isfinite(loss)
    with pytest.raises(ValueError, match="square"):
        autoencoder_loss(vae, wide, jax.random.key(0), LossWeights(equivariant_share=0.5))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"kl": -1.0}, "loss.kl"),
        ({"gradient": float("nan")}, "loss.gradient"),
        ({"equivariant_share": 1.5}, "loss.equivariant_share"),
    ],
)
def test_bad_weights_are_named(change, name):
    with pytest.raises(ValueError, match=name):
        LossWeights(**change)


def test_gradient_energy_of_stripes_and_the_sharpness_of_their_blur():
    """Stripes of ±1 change by 2 at every step across and by 0 down: 1 in the mean of both."""
    stripes = jnp.tile(jnp.where(jnp.arange(8) % 2, 1.0, -1.0)[None, None, :, None], (2, 8, 1, 3))
    np.testing.assert_allclose(gradient_energy(stripes), [1.0, 1.0])
    both = jnp.stack([stripes[0], 0.5 * stripes[0]])
    np.testing.assert_allclose(gradient_energy(both), [1.0, 0.5])
    np.testing.assert_allclose(sharpness(both, stripes), 0.75)
    photograph = jnp.asarray(np.random.default_rng(0).normal(size=(1, 32, 32, 3)), jnp.float32)
    soft = jnp.asarray(gaussian_filter(np.asarray(photograph), (0, 1, 1, 0)))
    assert sharpness(soft, photograph) < 0.5


def test_psnr_of_a_constant_error():
    a = jnp.zeros((2, 8, 8, 3))
    b = jnp.stack([a[0] + 0.2, a[1] + 2.0])
    np.testing.assert_allclose(psnr(a, b), [20.0, 0.0], atol=1e-4)


def test_ssim_agrees_with_scipys_gaussian_filter():
    a, b = images(3, (2, 24, 20, 3)), images(4, (2, 24, 20, 3))
    b = 0.7 * a + 0.3 * b

    def blur(x):  # truncate 3.5 gives the 11 taps of the definition
        return gaussian_filter(x, (0, 1.5, 1.5, 0), truncate=3.5)[:, 5:-5, 5:-5]

    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = 0.02**2, 0.06**2
    expected = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    np.testing.assert_allclose(ssim(a, b), expected.mean((1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(ssim(a, a), [1.0, 1.0], rtol=1e-5)


def test_decoder_only_lets_no_gradient_through():
    graphdef, params = nnx.split(
        random_network(lambda rngs: AutoencoderKL(SMALL, rngs=rngs)), nnx.Param
    )

    @functools.partial(jax.jit, static_argnums=1)
    @jax.grad
    def gradient(params, decoder_only):
        vae = nnx.merge(graphdef, params)
        return autoencoder_loss(vae, images(), jax.random.key(0), LossWeights(), decoder_only)[0]

    all_of_it, part = (gradient(params, flag) for flag in (False, True))
    assert any(np.any(g) for g in jax.tree.leaves(all_of_it["encoder"]))
    assert not any(np.any(g) for g in jax.tree.leaves(part["encoder"]))
    for a, b in zip(*(jax.tree.leaves(g["decoder"]) for g in (all_of_it, part)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
