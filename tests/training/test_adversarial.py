"""The adversarial stage: whose gradients go where, its terms in closed form, and a run of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from dg2_jax.evaluation.probe import AttributeProbe, ProbeConfig
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.nn.modules import split
from dg2_jax.pictures.images import from_uint8
from dg2_jax.training import adversarial, state, step
from dg2_jax.training.adversarial import DISCRIMINATOR, AdversarialConfig, Discriminator
from dg2_jax.training.autoencoder import LossWeights, latents_and_targets, reconstruction_loss
from dg2_jax.training.config import OptimConfig, RunConfig
from tests.networks import random_network

SMALL = AutoencoderConfig(
    block_out_channels=(8, 8),
    decoder_block_out_channels=(8, 8, 8),
    layers_per_block=1,
    decoder_layers_per_block=1,
    norm_num_groups=4,
    mid_block_add_attention=False,
    patch_size=2,
    head_channels=4,
    downsample="symmetric",
)
WEIGHTS = LossWeights(equivariant_share=0.0)
RNG = np.random.default_rng(0)
BATCH = {
    "image": RNG.integers(0, 256, (4, 32, 32, 3)).astype(np.uint8),
    "latents": RNG.normal(size=(4, 4, 4, 4)).astype(np.float16),
}


def setup(decoder_only=True, probe=None, weights=WEIGHTS, **changes):
    config = AdversarialConfig(**({"channels": (8, 16), "r1": 0.0} | changes))
    vae = random_network(lambda rngs: AutoencoderKL(SMALL, rngs=rngs))
    judge = random_network(lambda rngs: Discriminator(config, rngs=rngs))
    (vae_graph, vae_params), (judge_graph, judge_params) = split(vae), split(judge)
    params = {**vae_params, DISCRIMINATOR: judge_params}
    loss = adversarial.make_loss(
        vae_graph, judge_graph, weights, config, decoder_only=decoder_only, probe=probe
    )
    return params, loss, vae, judge


def gradients(params, loss, seed=1):
    return jax.jit(jax.grad(loss, has_aux=True))(params, BATCH, jax.random.key(seed))


def norm(tree):
    return float(optax.tree.norm(tree))


def difference(a, b):
    return jax.tree.map(jnp.subtract, a, b)


def test_a_discriminator_halves_at_every_level():
    judge = random_network(lambda rngs: Discriminator(AdversarialConfig(), rngs=rngs))
    logits, features = judge(jnp.zeros((2, 64, 96, 3)))
    assert logits.shape == (2, 4, 6, 1)
    shapes = [f.shape for f in features]
    assert shapes == [(2, 32, 48, 32), (2, 16, 24, 64), (2, 8, 12, 128), (2, 4, 6, 128)]


def test_hinge_is_zero_beyond_its_margins():
    real, fake = jnp.array([1.0, 3.0]), jnp.array([-1.0, -2.0])
    assert adversarial.hinge(real, fake) == 0.0
    assert adversarial.hinge(-real, -fake) == pytest.approx(2.0 + 1.0 + 2.5)


def test_gradient_penalty_of_a_linear_judge_is_the_closed_form():
    """D_p(x) = <w, patch p>: every patch has the gradient w, and so ½‖w‖² it is."""
    w = jnp.asarray(RNG.normal(size=(4, 4, 3)), jnp.float32)

    def judge(x):
        patches = x.reshape(2, 4, 4, 4, 4, 3)
        return jnp.einsum("bhpwqc,pqc->bhw", patches, w)[..., None]

    actual = adversarial.gradient_penalty(judge, jnp.zeros((2, 16, 16, 3)))
    assert actual == pytest.approx(0.5 * float(jnp.sum(w**2)), rel=1e-5)


def test_gradient_penalty_reaches_the_run_in_the_mean():
    params, loss, _, judge = setup(r1=1.0)
    without = setup(r1=0.0)[1]

    @jax.jit
    def added(key):
        return loss(params, BATCH, key)[0] - without(params, BATCH, key)[0]

    actual = np.array([added(jax.random.key(i)) for i in range(160)])
    drawn = actual[np.abs(actual) > 1e-6]
    true = adversarial.gradient_penalty(lambda x: judge(x)[0], from_uint8(BATCH["image"]))
    np.testing.assert_allclose(drawn, adversarial.R1_EVERY * true, rtol=1e-3)
    assert 3 <= len(drawn) <= 22  # a sixteenth of 160


def test_without_its_terms_the_decoder_learns_as_without_a_discriminator():
    params, loss, vae, _ = setup(weight=0.0, feature_matching=0.0)
    actual, metrics = gradients(params, loss)
    graphdef, own = nnx.split(vae)
    draw_key = jax.random.split(jax.random.key(1))[0]

    def plain(own):
        model = nnx.merge(graphdef, own)
        latents, target, _ = latents_and_targets(
            model, from_uint8(BATCH["image"]), draw_key, WEIGHTS, True
        )
        return reconstruction_loss(model.decode(latents), target, WEIGHTS)[0]

    expected = nnx.to_pure_dict(jax.grad(plain)(own))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5),
        actual["decoder"],
        expected["decoder"],
    )
    assert norm(actual["encoder"]) == 0.0
    assert norm(actual[DISCRIMINATOR]) > 0.0
    assert {"squared", "absolute", "gradient", "adversarial", "discriminator"} <= set(metrics)


def test_the_discriminator_learns_from_the_hinge_alone():
    with_terms, without = (
        gradients(*setup(weight=w, feature_matching=m)[:2])[0][DISCRIMINATOR]
        for w, m in ((3.0, 2.0), (0.0, 0.0))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), with_terms, without)


def test_the_adversarial_gradient_is_the_asked_share_of_the_reconstructions():
    """The decoder's gradient by the adversarial term is proportional to the weight."""
    params, loss, _, _ = setup(weight=0.0, feature_matching=0.0)
    base = gradients(params, loss)[0]["decoder"]
    half, whole = (
        gradients(params, setup(weight=w, feature_matching=0.0)[1])[0]["decoder"]
        for w in (0.5, 1.0)
    )
    first = difference(half, base)
    second = difference(whole, base)
    assert norm(first) > 0.01 * norm(base)
    assert norm(jax.tree.map(lambda a, b: 2 * a - b, first, second)) < 1e-3 * norm(second)


def test_own_latents_teach_by_the_adversarial_term_alone():
    params, loss, _, _ = setup(own_share=0.5, weight=0.0, feature_matching=0.0)
    without = setup(weight=0.0, feature_matching=0.0)[1]
    a, b = (gradients(params, f)[0] for f in (loss, without))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), a["decoder"], b["decoder"]
    )
    assert norm(difference(a[DISCRIMINATOR], b[DISCRIMINATOR])) > 1e-3
    taught, other = (
        gradients(params, setup(own_share=s, weight=1.0, feature_matching=0.0)[1])[0]["decoder"]
        for s in (0.5, 0.0)
    )
    assert norm(difference(taught, other)) > 1e-3 * norm(other)


def test_perceptual_difference_is_zero_for_equal_pictures_and_reaches_the_decoder():
    probe = random_network(
        lambda rngs: AttributeProbe(ProbeConfig(2, (8, 8), norm_groups=4), rngs=rngs)
    )
    pixels = from_uint8(BATCH["image"])
    assert adversarial.perceptual_difference(probe, pixels, pixels) == 0.0
    assert 0.0 < adversarial.perceptual_difference(probe, pixels, -pixels) <= 4.0
    params, loss, _, _ = setup(probe=probe, perceptual=1.0, weight=0.0, feature_matching=0.0)
    actual, metrics = gradients(params, loss)
    base = gradients(*setup(weight=0.0, feature_matching=0.0)[:2])[0]
    assert metrics["perceptual"] > 0
    assert norm(difference(actual["decoder"], base["decoder"])) > 1e-4


def test_an_encoder_that_is_trained_gets_its_gradient():
    actual, _ = gradients(*setup(decoder_only=False)[:2])
    assert norm(actual["encoder"]) > 0.0


def test_steps_of_both_networks_learn():
    """The reconstruction falls, the discriminator tells real from decoded, the encoder stays."""
    params, loss, _, _ = setup(weight=0.1, r1=0.1)
    config = RunConfig(
        num_steps=60,
        batch_size=4,
        optim=OptimConfig(learning_rate=3e-3, warmup_steps=0, frozen=("encoder",)),
    )
    optimizer = adversarial.make_optimizer(config, AdversarialConfig(channels=(8, 16)))
    run = step.make_train_step(loss, config, transform=optimizer)
    current = state.create(jax.tree.map(jnp.copy, params), optimizer)
    history = []
    for _ in range(60):
        current, metrics = run(current, BATCH)
        history.append(jax.device_get(metrics))
    first, last = history[0], history[-1]
    assert last["squared"] < 0.9 * first["squared"]
    assert last["discriminator"] < first["discriminator"]
    jax.tree.map(np.testing.assert_array_equal, current.params["encoder"], params["encoder"])
    assert norm(difference(current.params[DISCRIMINATOR], params[DISCRIMINATOR])) > 0


def test_a_transform_adds_a_crop_of_a_drawn_latent():
    latents = np.arange(2 * 4 * 5).reshape(2, 4, 5, 1)
    transform = adversarial.own_latents(latents, 3)
    seen = set()
    for seed in range(60):
        actual = transform({"image": 0}, np.random.default_rng(seed))["latents"]
        assert actual.shape == (3, 3, 1)
        which, top, left = (int(i) for i in np.argwhere(latents[..., 0] == actual[0, 0, 0])[0])
        np.testing.assert_array_equal(actual, latents[which, top : top + 3, left : left + 3])
        seen.add((which, top, left))
    assert len(seen) == 2 * 2 * 3


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"weight": -1.0}, "adversarial.weight"),
        ({"r1": float("nan")}, "adversarial.r1"),
        ({"own_share": 1.5}, "adversarial.own_share"),
        ({"channels": ()}, "adversarial.channels"),
        ({"learning_rate": 0.0}, "adversarial.learning_rate"),
    ],
)
def test_bad_settings_are_named(change, name):
    with pytest.raises(ValueError, match=name):
        AdversarialConfig(**change)
