"""The UNet and its attention: shapes, conditioning, masks, remat, and lowering for accelerators."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax.nn import attention
from dg2_jax.nn.layers import sinusoidal_embedding
from dg2_jax.nn.unet import UNet, UNetConfig
from tests.networks import random_network

SMALL = {
    "in_channels": 4,
    "channels": (8, 16),
    "attention_levels": (False, True),
    "head_dim": 8,
    "context_dim": 12,
    "embed_dim": 16,
    "norm_groups": 4,
}


def build(**changes):
    """A UNet with every parameter random: new ones are zero at the end of each branch."""
    return random_network(lambda: UNet(UNetConfig(**{**SMALL, **changes}), rngs=nnx.Rngs(0)))


def inputs(batch=2, length=5, side=8):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, side, side, 4)), jnp.float32)
    context = jnp.asarray(rng.normal(size=(batch, length, 12)), jnp.float32)
    mask = jnp.arange(length)[None, :] < jnp.array([[3], [5]])[:batch]
    return x, jnp.arange(batch) * 400, context, mask


@nnx.jit
def predict(unet, x, t, context, mask):
    """Compiled as a whole: one operation at a time takes several times as long to compile."""
    return unet(x, t, unet.project_context(context, mask))


def test_text_time_and_input_matter_and_images_do_not_mix():
    unet = build()
    x, t, context, mask = inputs()
    out = predict(unet, x, t, context, mask)
    assert out.shape == x.shape
    for changed in (
        predict(unet, x + 0.1, t, context, mask),
        predict(unet, x, t + 1, context, mask),
        predict(unet, x, t, context + 0.1, mask),
    ):
        assert np.abs(changed - out).max() > 1e-4
    other = predict(unet, x.at[1].add(1.0), t, context.at[1].add(1.0), mask)
    np.testing.assert_allclose(other[0], out[0], atol=1e-5)


def test_padding_tokens_have_no_effect():
    unet = build()
    x, t, context, mask = inputs()
    out = predict(unet, x, t, context, mask)
    garbage = jnp.where(mask[:, :, None], context, 99.0)
    np.testing.assert_allclose(out, predict(unet, x, t, garbage, mask), atol=1e-5)


def test_null_context_is_one_token_whatever_the_length():
    unet = build()
    x, t, _, _ = inputs()
    short = predict(unet, x, t, *unet.null_context(2, 1))
    long = predict(unet, x, t, *unet.null_context(2, 9))
    np.testing.assert_allclose(short, long, atol=1e-5)

    @jax.jit
    @jax.grad
    def gradient(token):
        context = jnp.broadcast_to(token, (2, 1, 12))
        return jnp.sum(unet(x, t, unet.project_context(context, jnp.ones((2, 1), bool))))

    assert np.abs(gradient(unet.null_token[...])).max() > 0


def test_a_new_unet_predicts_zero():
    unet = UNet(UNetConfig(**SMALL), rngs=nnx.Rngs(0))
    x, t, context, mask = inputs()
    np.testing.assert_array_equal(predict(unet, x, t, context, mask), 0.0)


def test_remat_changes_no_number():
    x, t, context, mask = inputs()

    def loss_and_grad(unet):
        graphdef, params = nnx.split(unet)

        def loss(p):
            model = nnx.merge(graphdef, p)
            return jnp.sum(jnp.square(model(x, t, model.project_context(context, mask))))

        return jax.jit(jax.value_and_grad(loss))(params)

    plain, remat = loss_and_grad(build()), loss_and_grad(build(remat=True))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(remat), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_dropout_needs_a_key():
    unet = build(dropout=0.5)
    x, t, context, mask = inputs()
    kv = unet.project_context(context, mask)
    call = nnx.jit(lambda unet, kv, key=None: unet(x, t, kv, key))
    np.testing.assert_array_equal(call(unet, kv), call(unet, kv))
    one, two = (call(unet, kv, jax.random.key(i)) for i in (0, 1))
    assert np.abs(one - two).max() > 1e-3


def test_neighbouring_timesteps_have_similar_embeddings():
    # The published table divides by a reciprocal, which makes this -0.005.
    a, b = sinusoidal_embedding(jnp.array([500, 501]), 128)
    assert float(a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b)) > 0.95


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_lowers_for_every_platform(platform):
    graphdef, params = nnx.split(build())
    x, t, context, mask = inputs()

    def apply(params, x, t, context, mask):
        model = nnx.merge(graphdef, params)
        return model(x, t, model.project_context(context, mask))

    exported = jax.export.export(jax.jit(apply), platforms=[platform])(
        nnx.to_pure_dict(params), x, t, context, mask
    )
    assert exported.platforms == (platform,)


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


def test_bad_latent_size():
    unet = build()
    x, t, context, mask = inputs(side=7)
    with pytest.raises(ValueError, match="multiples of 2"):
        predict(unet, x, t, context, mask)
