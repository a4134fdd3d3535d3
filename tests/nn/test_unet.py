"""The UNet's configuration, the time embedding, and the paths of attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.nn import attention
from dg2_jax.nn.layers import sinusoidal_embedding
from dg2_jax.nn.unet import UNetConfig

SMALL = {
    "channels": (8, 16),
    "attention_levels": (False, True),
    "head_dim": 8,
    "norm_groups": 4,
}


def test_neighbouring_timesteps_have_similar_embeddings():
    # The published table divides by a reciprocal, which makes this -0.005.
    a, b = sinusoidal_embedding(jnp.array([500, 501]), 128)
    assert float(a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b)) > 0.95


@pytest.mark.parametrize("path", ["_attend_fused", "_attend_batched", "_attend_mapped"])
def test_attention_paths_agree_with_the_definition(path):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, n, 3, 8)).astype(np.float32) for n in (6, 5, 5))
    mask = np.arange(5)[None, :] < np.array([[2], [5]])
    logits = np.einsum("bqhd,bkhd->bhqk", q, k).astype(np.float64) / np.sqrt(8)
    logits = np.where(mask[:, None, None, :], logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    expected = np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), v)
    attend = getattr(attention, path)
    got = attend(*map(jnp.asarray, (q, k, v, mask)))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    gradient = jax.grad(lambda q: attend(q, *map(jnp.asarray, (k, v, mask))).sum())(jnp.asarray(q))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_levels": (True,)}, "attention_levels needs one entry"),
        ({"norm_groups": 3}, "norm_groups=3 must divide"),
        ({"head_dim": 7}, "head_dim=7 must divide"),
        ({"blocks_per_level": 0}, "blocks_per_level must be at least 1"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_bad_configurations(change, message):
    with pytest.raises(ValueError, match=message):
        UNetConfig(**{**SMALL, **change})
