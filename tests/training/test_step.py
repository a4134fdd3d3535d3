"""The diffusion step: a tiny UNet learns; what is random, and what is not."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion import losses
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.dit import DiT, DiTConfig
from dg2_jax.nn.modules import split
from dg2_jax.nn.precision import with_compute_dtype
from dg2_jax.nn.scaling import Scaling
from dg2_jax.nn.unet import UNet, UNetConfig
from dg2_jax.training import optimizer, state, step
from dg2_jax.training.config import EmaConfig, OptimConfig, RunConfig
from dg2_jax.training.process import DiffusionConfig
from tests.networks import random_network, random_params
from tests.training import helpers

TINY = UNetConfig(
    in_channels=2,
    channels=(16,),
    attention_levels=(True,),
    head_dim=8,
    context_dim=8,
    embed_dim=16,
    norm_groups=4,
)
TINY_DIT = DiTConfig(2, width=32, depth=2, head_dim=16, context_dim=8, embed_dim=16)
RUN = RunConfig(
    num_steps=150,
    batch_size=32,
    optim=OptimConfig(learning_rate=3e-3, warmup_steps=10, weight_decay=0.0),
    ema=EmaConfig(profile="power"),
)
DIFFUSION = DiffusionConfig(zero_terminal_snr=True)
SCALING = Scaling(0.5, 1.0)


def make_batch(seed, size=32):
    """Latents that the caption decides: a ramp or its negative, unscaled, with little variance."""
    rng = np.random.default_rng(seed)
    sign = rng.integers(0, 2, size) * 2.0 - 1.0
    ramp = np.linspace(-1.5, 1.5, 32).reshape(4, 4, 2)
    context = np.zeros((size, 3, 8), np.float16)
    context[:, 0] = sign[:, None]
    return {
        "mean": (sign[:, None, None, None] * ramp / 0.5 + 1.0).astype(np.float16),
        "logvar": np.full((size, 4, 4, 2), -6.0, np.float16),
        "context": context,
        "mask": np.broadcast_to(np.array([True, True, False]), (size, 3)).copy(),
    }


def make(config=RUN, diffusion=DIFFUSION, network=lambda rngs: UNet(TINY, rngs=rngs)):
    structure, params = state.network(network, 0)
    loss_fn = step.diffusion_loss(structure, diffusion, SCALING)
    start = state.create(params, optimizer.make(config.optim, config.num_steps))
    return structure, start, loss_fn, step.make_train_step(loss_fn, config)


@pytest.fixture(scope="module")
def trained():
    """A whole run: its initial weights, its last state and its losses."""
    structure, current, _, step_fn = make()
    initial, actual = jax.device_get(current.params), []
    for i in range(RUN.num_steps):
        current, metrics = step_fn(current, make_batch(i))
        actual.append(metrics["loss"])
    return structure, initial, current, np.array(jax.device_get(actual))


def test_loss_falls(trained):
    # The output starts at zero, so the first losses are E[w v²]; the ramp's sign is in the caption,
    # so almost all of it can be learnt.
    _, _, _, actual = trained
    assert actual[:10].mean() > 0.2
    assert actual[-20:].mean() < 0.04


def test_loss_of_a_diffusion_transformer_falls_too():
    longer = dataclasses.replace(RUN, num_steps=300)
    _, current, _, step_fn = make(longer, network=lambda rngs: DiT(TINY_DIT, rngs=rngs))
    actual = []
    for i in range(longer.num_steps):
        current, metrics = step_fn(current, make_batch(i))
        actual.append(metrics["loss"])
    assert np.mean(actual[:10]) > 0.2
    assert np.mean(actual[-20:]) < 0.04


def test_average_does_better_than_the_start_on_the_fixed_grid(trained):
    structure, initial, current, _ = trained
    validate = step.make_validation(structure, DIFFUSION, SCALING)
    batches = [make_batch(1000), make_batch(1001, size=16)]
    before, after = validate(initial, batches), validate(current.ema, batches)
    assert set(after) == {"val_loss", "val_mse"}
    assert after["val_loss"] < 0.25 * before["val_loss"]
    assert after["val_mse"] < 0.25 * before["val_mse"]
    assert validate(current.ema, batches) == after


def test_null_context_is_trained(trained):
    _, initial, current, _ = trained
    assert np.abs(np.asarray(current.params["null_token"]) - initial["null_token"]).max() > 1e-3


def test_untrained_validation_is_the_mean_square_of_the_target():
    # The output convolution starts at zero: val_mse is then E[v²], known for latents and noise of
    # unit variance: α² + σ² · E[x₀²].
    structure, current, _, _ = make()
    batch = make_batch(0)
    x0 = (batch["mean"].astype(np.float32) - 1.0) * 0.5
    validate = step.make_validation(structure, DIFFUSION, SCALING)
    actual = validate(current.params, [batch] * 32)["val_mse"]
    alpha_bar = np.asarray(step._alpha_bar(DIFFUSION))
    expected = np.mean(alpha_bar) + np.mean(1 - alpha_bar) * np.mean(x0**2)
    assert actual == pytest.approx(expected, rel=0.02)


def test_randomness_is_of_seed_and_step():
    def draw(params, batch, key):
        return jax.random.normal(key) + 0.0 * params["w"].sum(), {}

    def loss(seed, at):
        config = dataclasses.replace(helpers.make_config(), seed=seed)
        start = helpers.make_state(config)._replace(step=jnp.int32(at))
        return float(step.make_train_step(draw, config)(start, {})[1]["loss"])

    assert loss(0, 0) == loss(0, 0)
    assert len({loss(0, 0), loss(0, 1), loss(1, 0)}) == 3


def test_noise_is_assigned_to_the_nearest_pictures():
    """Against all orders of five."""
    x0, noise = (jax.random.normal(jax.random.key(i), (5, 2, 2, 1)) for i in range(2))
    actual = losses.assign_noise(x0, noise)
    costs = {
        order: float(jnp.sum((x0 - noise[jnp.array(order)]) ** 2))
        for order in itertools.permutations(range(5))
    }
    best = min(costs, key=costs.__getitem__)
    np.testing.assert_array_equal(actual, noise[jnp.array(best)])


def test_dropped_captions_get_the_null_and_its_mask():
    model = random_network(lambda rngs: UNet(TINY, rngs=rngs))
    context, mask = jnp.full((3, 4, 8), 7.0), jnp.ones((3, 4), bool)
    tokens, kept = step.with_null(model, context, mask, jnp.array([False, True, False]))
    np.testing.assert_array_equal(tokens[0], context[0])
    np.testing.assert_array_equal(tokens[1, 0], model.null_token[...])
    assert kept.sum(axis=1).tolist() == [4, 1, 4]


def test_all_captions_dropped_means_captions_do_not_matter():
    _, current, loss_fn, _ = make(diffusion=dataclasses.replace(DIFFUSION, caption_dropout=1.0))
    # Noise in the weights, since a zero output would not show anything.
    params = jax.tree.map(lambda p: p + 0.1, current.params)
    batch, key = make_batch(0), jax.random.key(0)
    other = {**batch, "context": -batch["context"]}
    compiled = jax.jit(loss_fn)
    assert float(compiled(params, batch, key)[0]) == float(compiled(params, other, key)[0])


def test_every_step_draws_from_the_posterior():
    _, current, loss_fn, _ = make()
    batch = make_batch(0)
    wide = {**batch, "logvar": np.full_like(batch["logvar"], 3.0)}
    key, compiled = jax.random.key(0), jax.jit(loss_fn)
    # With a zero output the loss is E[w v²], which grows with the variance of the latents.
    assert float(compiled(current.params, wide, key)[0]) > 1.2 * float(
        compiled(current.params, batch, key)[0]
    )


def dit_loss(compute_dtype="float32", **changes):
    """The loss of a DiT of one block, and weights for it; of new ones the gradient is mostly 0."""
    config = dataclasses.replace(TINY_DIT, depth=1, **changes)
    network = lambda rngs: with_compute_dtype(DiT(config, rngs=rngs), compute_dtype)  # noqa: E731
    loss_fn = step.diffusion_loss(split(abstract(network))[0], DIFFUSION, SCALING)
    return loss_fn, random_params(network)


@functools.cache
def gradient(parts=1, **options):
    """The loss and its gradient."""
    loss_fn, params = dit_loss(**options)
    compiled = jax.jit(step._make_gradient(loss_fn, parts))
    (loss, _), actual = compiled(params, make_batch(0), jax.random.key(0))
    return np.asarray(loss), jax.tree.map(np.asarray, actual)


def assert_close(found, wanted, rtol):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


def test_accumulated_gradient_is_the_whole_batchs():
    assert_close(gradient(parts=4), gradient(), rtol=1e-5)


def products(jaxpr):
    """The matrix products of a program and of what it calls."""
    actual = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                part = getattr(part, "jaxpr", part)
                actual += products(part) if hasattr(part, "eqns") else []
    return actual


def gradient_program(**options):
    loss_fn, params = dit_loss(**options)
    program = jax.make_jaxpr(jax.grad(loss_fn, has_aux=True))
    return program(params, make_batch(0), jax.random.key(0)).jaxpr


def test_bfloat16_is_for_products_alone():
    loss, actual = gradient(compute_dtype="bfloat16")
    assert loss == pytest.approx(gradient()[0], rel=0.02)
    assert {leaf.dtype for leaf in jax.tree.leaves(actual)} == {np.dtype(np.float32)}
    program = gradient_program(compute_dtype="bfloat16")
    inputs = [str(e.invars[0].aval.dtype) for e in products(program)]
    assert inputs.count("bfloat16") > 0.9 * len(inputs) > 20


def test_remat_policies_recompute_more_or_less_of_the_same():
    kept, cheap, everything = (
        len(products(gradient_program(remat=remat, remat_policy=policy)))
        for remat, policy in ((False, "cheap"), (True, "cheap"), (True, "everything"))
    )
    assert kept <= cheap < everything
    assert_close(gradient(remat=True, remat_policy="cheap"), gradient(), rtol=1e-5)
    with pytest.raises(ValueError, match="remat_policy must be one of"):
        dataclasses.replace(TINY_DIT, remat_policy="some")
