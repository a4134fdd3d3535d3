"""The optimisers: Muon's step against a singular value decomposition, rates, and who decays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.contrib import MuonDimensionNumbers

from dg2_jax.training import optimizer
from dg2_jax.training.config import OptimConfig
from dg2_jax.training.muon import muon

KEY = jax.random.key(0)


def first_update(config: OptimConfig, params, grads):
    """The update of the first step at the full rate."""
    transform = optimizer.make(config, num_steps=10)
    return transform.update(grads, transform.init(params), params)[0]


def config(**values) -> OptimConfig:
    """A rate of 1 from the first step, no decay, clipping out of reach."""
    plain = {"name": "muon", "learning_rate": 1.0, "warmup_steps": 0, "weight_decay": 0.0}
    return OptimConfig(**{**plain, "clip_norm": 1e6, **values})


def test_rate_is_constant_until_its_last_steps():
    values = {"warmup_steps": 10, "final_learning_rate": 0.1, "learning_rate": 0.5}
    rate = optimizer.learning_rate(OptimConfig(**values, decay_steps=40), 100)
    assert rate(0) == 0.0
    assert rate(5) == pytest.approx(0.25)
    assert [float(rate(t)) for t in (10, 35, 60)] == pytest.approx([0.5] * 3)
    assert rate(80) == pytest.approx(0.3)  # half-way down the cosine
    assert rate(100) == pytest.approx(0.1)
    whole = optimizer.learning_rate(OptimConfig(**values), 110)
    assert [float(whole(t)) for t in (10, 60, 110)] == pytest.approx([0.5, 0.3, 0.1])
    with pytest.raises(ValueError, match="decay_steps must be at most 90"):
        optimizer.learning_rate(OptimConfig(**values, decay_steps=91), 100)


@pytest.mark.parametrize("shape", [(24, 8), (3, 3, 4, 16)])
def test_muon_turns_a_gradient_into_its_orthogonal_factor(shape):
    grads = {"w": jax.random.normal(KEY, shape)}
    update = first_update(config(), grads, grads)["w"]
    matrix = np.asarray(grads["w"]).reshape(-1, shape[-1])
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    expected = -0.2 * np.sqrt(max(matrix.shape)) * left @ right
    got = np.asarray(update).reshape(matrix.shape)
    cosine = np.sum(got * expected) / np.linalg.norm(got) / np.linalg.norm(expected)
    # Five Newton-Schulz steps leave singular values between 0.7 and 1.2, not at 1.
    assert cosine > 0.97
    assert 0.7 < np.linalg.norm(got) / np.linalg.norm(expected) < 1.2


def test_muon_is_optax_muon():
    shapes = {"tall": (30, 8), "wide": (8, 40), "square": (16, 16), "conv": (3, 3, 4, 6), "b": (5,)}

    def draw(seed):
        keys = jax.random.split(jax.random.key(seed), len(shapes))
        return {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}

    def axes(params):
        return jax.tree.map(
            lambda p: (
                MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if p.ndim > 1 else None
            ),
            params,
        )

    rate = optax.constant_schedule(0.1)
    decay = {"weight_decay": 0.1, "weight_decay_mask": lambda p: jax.tree.map(lambda a: True, p)}
    ours = muon(rate, momentum=0.9, b1=0.8, b2=0.99, eps=1e-8, **decay)
    theirs = optax.contrib.muon(
        rate, beta=0.9, adam_b1=0.8, adam_b2=0.99, eps=1e-8, consistent_rms=0.2,
        muon_weight_dimension_numbers=axes, **decay,
    )  # fmt: skip
    states = [t.init(draw(0)) for t in (ours, theirs)]
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    # Singular values over six orders of magnitude, as gradients have them.
    updates = [jax.jit(t.update) for t in (ours, theirs)]
    for step in range(3):
        grads = draw(step)
        left, _, right = jnp.linalg.svd(grads["tall"], full_matrices=False)
        grads["tall"] = left @ jnp.diag(jnp.logspace(0, -6, 8)) @ right
        actual, expected = (u(grads, s, draw(9)) for u, s in zip(updates, states, strict=True))
        states = [actual[1], expected[1]]
        for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-4 * np.abs(b).max())


def test_muon_leaves_vectors_to_nadam():
    grads = {"w": jax.random.normal(KEY, (8, 8)), "b": jnp.array([3.0, -0.5, 1e-3])}
    update = first_update(config(), grads, grads)["b"]
    size = 1 + 0.9 / 1.9  # NAdam's first step: g (1 + b1 (1 - b1) / (1 - b1²)) / |g|
    np.testing.assert_allclose(update, [-size, size, -size], rtol=1e-4)


def test_decay_acts_on_matrices_only():
    params = {"w": jnp.ones((4, 4)), "b": jnp.ones(4)}
    grads = jax.tree.map(jnp.zeros_like, params)
    for name in ("adamw", "muon"):
        update = first_update(config(name=name, weight_decay=0.1), params, grads)
        np.testing.assert_allclose(update["w"], -0.1, rtol=1e-5)
        np.testing.assert_array_equal(update["b"], 0.0)


def test_adamw_is_optax_adamw():
    params = {"w": jax.random.normal(KEY, (4, 4))}
    update = first_update(config(name="adamw"), params, params)
    reference = optax.adamw(1.0, b1=0.9, b2=0.99, weight_decay=0.0)
    expected = reference.update(params, reference.init(params), params)[0]
    np.testing.assert_allclose(update["w"], expected["w"], rtol=1e-6)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"optim\.name must be one of adamw, muon"):
        OptimConfig(name="sgd")


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_what_is_frozen_stays_and_has_no_state(name):
    params = {part: {"w": jnp.ones((4, 4)), "b": jnp.ones(4)} for part in ("encoder", "decoder")}
    transform = optimizer.make(config(name=name, weight_decay=0.1, frozen=("encoder",)), 10)
    alone = optimizer.make(config(name=name, weight_decay=0.1), 10)
    state = transform.init(params)
    update = transform.update(params, state, params)[0]
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(update["encoder"]))
    half = {"decoder": params["decoder"]}
    expected = alone.update(half, alone.init(half), half)[0]
    jax.tree.map(np.testing.assert_array_equal, update["decoder"], expected["decoder"])
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(s)) for s in (state, alone.init(half))]
    assert sizes[0] == sizes[1]
    with pytest.raises(ValueError, match=r"optim\.frozen must be among encoder, decoder, got vae"):
        optimizer.make(config(frozen=("vae",)), 10).init(params)
