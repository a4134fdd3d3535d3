"""What UNet and DiT share: shapes, conditioning, masks, remat, lowering for accelerators."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax.nn.dit import DiT, DiTConfig
from dg2_jax.nn.unet import UNet, UNetConfig
from tests.networks import random_network

SMALL_UNET = {
    "in_channels": 4,
    "channels": (8, 16),
    "attention_levels": (False, True),
    "head_dim": 8,
    "context_dim": 12,
    "embed_dim": 16,
    "norm_groups": 4,
}
SMALL_DIT = {
    "in_channels": 4,
    "width": 16,
    "depth": 2,
    "head_dim": 8,
    "context_dim": 12,
    "embed_dim": 16,
}
MAKERS = {
    "unet": lambda rngs, **changes: UNet(UNetConfig(**{**SMALL_UNET, **changes}), rngs=rngs),
    "dit": lambda rngs, **changes: DiT(DiTConfig(**{**SMALL_DIT, **changes}), rngs=rngs),
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


@pytest.fixture
def build(make):
    """Builds a network with every parameter random: new ones are zero at the end of branches."""
    return lambda **changes: random_network(lambda rngs: make(rngs, **changes))


def inputs(batch=2, length=5, side=8):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, side, side, 4)), jnp.float32)
    context = jnp.asarray(rng.normal(size=(batch, length, 12)), jnp.float32)
    mask = jnp.arange(length)[None, :] < jnp.array([[3], [5]])[:batch]
    return x, jnp.arange(batch) * 400, context, mask


@nnx.jit
def predict(network, x, t, context, mask):
    """Compiled as a whole: one operation at a time takes several times as long to compile."""
    return network(x, t, network.project_context(context, mask))


def test_text_time_and_input_matter_and_images_do_not_mix(build):
    network = build()
    x, t, context, mask = inputs()
    out = predict(network, x, t, context, mask)
    assert out.shape == x.shape
    for changed in (
        predict(network, x + 0.1, t, context, mask),
        predict(network, x, t + 1, context, mask),
        predict(network, x, t, context + 0.1, mask),
    ):
        assert np.abs(changed - out).max() > 1e-4
    other = predict(network, x.at[1].add(1.0), t, context.at[1].add(1.0), mask)
    np.testing.assert_allclose(other[0], out[0], atol=1e-5)


def test_padding_tokens_have_no_effect(build):
    network = build()
    x, t, context, mask = inputs()
    out = predict(network, x, t, context, mask)
    garbage = jnp.where(mask[:, :, None], context, 99.0)
    np.testing.assert_allclose(out, predict(network, x, t, garbage, mask), atol=1e-5)


def test_null_context_is_one_token_at_any_length(build):
    network = build()
    x, t, _, _ = inputs()
    short = predict(network, x, t, *network.null_context(2, 1))
    long = predict(network, x, t, *network.null_context(2, 9))
    np.testing.assert_allclose(short, long, atol=1e-5)

    network.null_token[...] += 1.0
    assert np.abs(predict(network, x, t, *network.null_context(2, 1)) - short).max() > 1e-3


def test_a_new_network_predicts_zero(make):
    network = make(nnx.Rngs(0))
    x, t, context, mask = inputs()
    np.testing.assert_array_equal(predict(network, x, t, context, mask), 0.0)


@pytest.mark.parametrize(
    ("make", "smaller"),  # as deep as it takes, and quicker to compile
    [("unet", {"channels": (8,), "attention_levels": (True,)}), ("dit", {"depth": 1})],
    indirect=["make"],
)
def test_remat_changes_no_number(build, smaller):
    x, t, context, mask = inputs()

    def loss_and_grad(network):
        graphdef, params = nnx.split(network)

        def loss(p):
            model = nnx.merge(graphdef, p)
            return jnp.sum(jnp.square(model(x, t, model.project_context(context, mask))))

        return jax.jit(jax.value_and_grad(loss))(params)

    plain, remat = loss_and_grad(build(**smaller)), loss_and_grad(build(**smaller, remat=True))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(remat), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_dropout_needs_a_key(build):
    network = build(dropout=0.5)
    x, t, context, mask = inputs()
    kv = network.project_context(context, mask)
    call = nnx.jit(lambda network, kv, key=None: network(x, t, kv, key))
    np.testing.assert_array_equal(call(network, kv), call(network, kv))
    one, two = (call(network, kv, jax.random.key(i)) for i in (0, 1))
    assert np.abs(one - two).max() > 1e-3


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_lowers_for_every_platform(build, platform):
    graphdef, params = nnx.split(build())
    x, t, context, mask = inputs()

    def apply(params, x, t, context, mask):
        model = nnx.merge(graphdef, params)
        return model(x, t, model.project_context(context, mask))

    exported = jax.export.export(jax.jit(apply), platforms=[platform])(
        nnx.to_pure_dict(params), x, t, context, mask
    )
    assert exported.platforms == (platform,)


def test_bad_latent_size(build):
    network = build()
    x, t, context, mask = inputs(side=7)
    with pytest.raises(ValueError, match="multiples of 2"):
        predict(network, x, t, context, mask)
