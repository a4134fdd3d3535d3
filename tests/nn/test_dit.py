"""The diffusion transformer: patches, positions, adaLN-zero, against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.nn.dit import DiT, DiTBlock, DiTConfig, position_embedding
from tests.networks import random_network

CONFIG = DiTConfig(in_channels=2, width=16, depth=1, head_dim=8, context_dim=6, embed_dim=12)


def linear(layer, x):
    return x @ np.asarray(layer.kernel[...], np.float64) + np.asarray(layer.bias[...], np.float64)


def normalise(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def attend(q, k, v, heads=2):
    """One picture: (n, c) by hand, head by head."""
    out = []
    for i in range(heads):
        part = slice(8 * i, 8 * i + 8)
        logits = q[:, part] @ k[:, part].T / np.sqrt(8)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        out.append(weights / weights.sum(-1, keepdims=True) @ v[:, part])
    return np.concatenate(out, -1)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def test_block_is_its_definition():
    block = random_network(lambda rngs: DiTBlock(CONFIG, rngs=rngs))
    rng = np.random.default_rng(0)
    x, embedding, text = rng.normal(size=(9, 16)), rng.normal(size=12), rng.normal(size=(3, 6))
    s1, k1, g1, s2, k2, g2 = np.split(linear(block.modulation, embedding), 6)
    y = x + g1 * linear(
        block.attended, attend(*np.split(linear(block.qkv, normalise(x) * (1 + k1) + s1), 3, -1))
    )
    k, v = np.split(linear(block.cross_kv, text), 2, -1)
    y = y + linear(block.crossed, attend(linear(block.cross_q, normalise(y)), k, v))
    y = y + g2 * linear(block.outer, gelu(linear(block.inner, normalise(y) * (1 + k2) + s2)))
    x, embedding, text = (jnp.asarray(a, jnp.float32)[None] for a in (x, embedding, text))
    mask = jnp.ones((1, 3), bool)
    actual = block(x, embedding, block.project_context(text), mask)
    np.testing.assert_allclose(actual[0], y, atol=1e-4)


def test_a_patch_is_read_and_written_at_its_place():
    """With positions and blocks silenced, a changed cell changes its own patch only."""
    config = DiTConfig(in_channels=2, patch_size=2, width=16, depth=1, head_dim=8, context_dim=6)
    dit = random_network(lambda rngs: DiT(config, rngs=rngs))
    for layer in (dit.blocks[0].modulation, dit.blocks[0].crossed):
        layer.kernel[...] = jnp.zeros_like(layer.kernel[...])
        layer.bias[...] = jnp.zeros_like(layer.bias[...])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 6, 2)), jnp.float32)
    t, conditioning = jnp.zeros(1, jnp.int32), dit.project_context(*dit.null_context(1))
    changed = dit(x.at[0, 3, 4, 1].add(1.0), t, conditioning) != dit(x, t, conditioning)
    expected = np.zeros((4, 6), bool)
    expected[2:4, 4:6] = True
    np.testing.assert_array_equal(np.asarray(changed).any(-1)[0], expected)


def test_positions_differ_and_do_not_depend_on_the_size():
    small, large = position_embedding(3, 4, 16), position_embedding(5, 7, 16)
    np.testing.assert_allclose(small.reshape(3, 4, 16), large.reshape(5, 7, 16)[:3, :4], atol=1e-6)
    distances = np.linalg.norm(np.asarray(large)[:, None] - large[None], axis=-1)
    assert distances[~np.eye(35, dtype=bool)].min() > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 18}, "width must be a multiple of 4"),
        ({"head_dim": 7}, "head_dim=7 must divide width"),
        ({"patch_size": 0}, "patch_size must be at least 1"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_bad_configurations(change, message):
    with pytest.raises(ValueError, match=message):
        DiTConfig(**{"width": 16, "head_dim": 8, **change})
