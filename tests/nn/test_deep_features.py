"""The UNet's deep features: what the levels below the first pass up, computed once and reused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax.nn.unet import UNet, UNetConfig
from tests.networks import random_network

CASES = {
    "three levels": {"channels": (8, 16, 24), "attention_levels": (False, True, False)},
    "two blocks a level": {
        "channels": (8, 16),
        "attention_levels": (True, False),
        "blocks_per_level": 2,
    },
}


def build(**changes):
    config = UNetConfig(
        in_channels=4, head_dim=8, context_dim=12, embed_dim=16, norm_groups=4, **changes
    )
    return random_network(lambda rngs: UNet(config, rngs=rngs))


@pytest.fixture(scope="module", params=CASES)
def network(request):
    return build(**CASES[request.param])


def inputs(network, seed=0):
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(2, 8, 8, 4)), jnp.float32)
    context = jnp.asarray(rng.normal(size=(2, 5, 12)), jnp.float32)
    conditioning = network.project_context(context, jnp.ones((2, 5), bool))
    return x, jnp.array([100, 700]) + seed, conditioning


evaluate = nnx.jit(lambda network, *args: network.evaluate(*args))


def test_features_stand_in_for_the_levels_that_made_them(network):
    args = inputs(network)
    output, deep = evaluate(network, *args)
    assert deep.shape == network.deep_shape(args[0].shape)
    again, same = evaluate(network, *args, deep)
    np.testing.assert_allclose(again, output, atol=1e-5)
    np.testing.assert_array_equal(same, deep)
    called = nnx.jit(lambda network, *args: network(*args))(network, *args)
    np.testing.assert_allclose(called, output, atol=1e-5)


def test_the_first_level_sees_what_is_new(network):
    args, other = inputs(network), inputs(network, 1)
    deep = evaluate(network, *args)[1]
    reused = evaluate(network, *other, deep)[0]
    assert np.abs(reused - evaluate(network, *args)[0]).max() > 1e-3
    assert np.abs(reused - evaluate(network, *other)[0]).max() > 1e-3


def test_only_the_first_level_is_run_on_given_features(network):
    """Any layer's weights change computed features; on given ones, only the first level's do."""
    args = inputs(network)
    output, deep = evaluate(network, *args)
    given = evaluate(network, *args, deep)[0]
    blocks = network.config.blocks_per_level
    first = {
        ("conv_in",), ("conv_out",), ("norm_out",), ("time1",), ("time2",),
        *(("down", i) for i in range(blocks)),
        *(("up", len(network.up) - 1 - i) for i in range(blocks + 1)),
    }  # fmt: skip
    graphdef, state = nnx.split(network)
    params = nnx.to_pure_dict(state)

    def layer(path):
        keys = tuple(entry.key for entry in path[:2])
        return keys if isinstance(keys[-1], int) else keys[:1]

    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    # The text's own come before and were given.
    layers = {layer(path) for path in paths} - {("pooled",), ("null_token",)}
    assert first < layers
    for name in layers:
        other = jax.tree.map_with_path(lambda path, a: a + 0.5 * (layer(path) == name), params)  # noqa: B023
        changed = nnx.merge(graphdef, other)
        differs = np.abs(evaluate(changed, *args, deep)[0] - given).max()
        assert differs > 1e-5 if name in first else differs == 0, name
        assert np.abs(evaluate(changed, *args)[0] - output).max() > 1e-5, name


def test_one_level_has_none():
    network = build(channels=(8,), attention_levels=(False,))
    args = inputs(network)
    assert evaluate(network, *args)[1] is None
    with pytest.raises(ValueError, match="two levels or more"):
        network.deep_shape(args[0].shape)
