"""The UNet's configuration, the time embedding, and the paths of attention."""

import jax
import jax.export
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


PATHS = ["_attend_in_parts", "_attend_batched", "_attend_mapped"]


def exact_attention(q, k, v, mask, g):
    """The definition and its gradients in float64: out, dq, dk, dv for ⟨g, out⟩."""
    q, k, v, g = (a.astype(np.float64) for a in (q, k, v, g))
    scale = q.shape[-1] ** -0.5
    logits = np.einsum("bqhd,bkhd->bhqk", q, k) * scale
    logits = np.where(mask[:, None, None, :], logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    of_weights = np.einsum("bqhd,bkhd->bhqk", g, v)
    of_logits = weights * (of_weights - np.sum(weights * of_weights, -1, keepdims=True)) * scale
    return (
        np.einsum("bhqk,bkhd->bqhd", weights, v),
        np.einsum("bhqk,bkhd->bqhd", of_logits, k),
        np.einsum("bhqk,bqhd->bkhd", of_logits, q),
        np.einsum("bhqk,bqhd->bkhd", weights, g),
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("queries", [6, 512])  # the second in blocks
def test_attention_paths_and_their_gradients_are_the_definition(path, queries):
    rng = np.random.default_rng(0)
    # Logits up to some 100, where an exp without the maximum taken off would overflow.
    q, k, v, g = (
        (s * rng.normal(size=(2, n, 3, 8))).astype(np.float32)
        for s, n in ((6, queries), (6, 5), (1, 5), (1, queries))
    )
    mask = np.arange(5)[None, :] < np.array([[2], [5]])
    attend = getattr(attention, path)

    @jax.jit
    def found(q, k, v, mask, g):
        out, vjp = jax.vjp(lambda *qkv: attend(*qkv, mask), q, k, v)
        return out, *vjp(g)

    for a, b in zip(found(q, k, v, mask, g), exact_attention(q, k, v, mask, g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("path", PATHS)
def test_attention_without_a_key_stays_finite(path):
    q = jnp.ones((1, 4, 2, 8))
    mask = jnp.zeros((1, 4), bool)
    attend = getattr(attention, path)
    for actual in jax.jit(jax.value_and_grad(lambda q: attend(q, q, q, mask).sum()))(q):
        assert np.isfinite(actual).all()


@pytest.mark.parametrize("lengths", [(6, 5), (256, 256)])
def test_attention_lowers_for_every_platform(lengths):
    q, k = (jnp.ones((1, n, 2, 8)) for n in lengths)
    gradient = jax.jit(jax.grad(lambda q: attention.dot_product_attention(q, k, k).sum()))
    exported = jax.export.export(gradient, platforms=["cpu", "cuda", "tpu"])(q)
    assert exported.platforms == ("cpu", "cuda", "tpu")


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
