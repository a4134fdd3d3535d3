"""Stable Diffusion's UNet as a network: configuration, remat, lowering, sharding.

What it computes is compared with diffusers in tests/interop/test_stable_diffusion.py.
"""

import dataclasses
import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax.interop.stable_diffusion.unet_config import parse_unet
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.sd_blocks import doubled, timestep_embedding
from dg2_jax.nn.sd_config import SDUNetConfig
from dg2_jax.nn.sd_controlnet import ControlNet, ControlNetConfig
from dg2_jax.nn.sd_unet import SDUNet
from dg2_jax.nn.transformer import layer_norm
from dg2_jax.scripts.published_unets import PUBLISHED

PLATFORMS = ("cpu", "cuda", "tpu")
SD1 = SDUNetConfig()
SD2 = dataclasses.replace(SD1, num_attention_heads=(5, 10, 20, 20), cross_attention_dim=1024)
XL = SDUNetConfig(
    block_out_channels=(320, 640, 1280),
    layers_per_block=(2, 2, 2),
    down_depths=((), (2, 2), (10, 10)),
    mid_depths=(10,),
    up_depths=((10,) * 3, (2,) * 3, ()),
    num_attention_heads=(5, 10, 20),
    cross_attention_dim=2048,
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)
SMALL = SDUNetConfig(
    block_out_channels=(8, 16),
    layers_per_block=(1, 1),
    down_depths=((1,), ()),
    up_depths=((), (1, 1)),
    num_attention_heads=(2, 2),
    cross_attention_dim=12,
    norm_num_groups=4,
)
SMALL_XL = dataclasses.replace(
    SMALL,
    down_depths=((), (2,)),
    up_depths=((2, 2), ()),
    mid_depths=(2,),
    addition_time_embed_dim=4,
    projection_class_embeddings_input_dim=10 + 6 * 4,
)
ONE_LEVEL = dataclasses.replace(
    SMALL_XL,
    block_out_channels=(64,),
    layers_per_block=(1,),
    down_depths=((1,),),
    up_depths=((1, 1),),
    mid_layers=0,
    mid_depths=(),
    num_attention_heads=(2,),
    norm_num_groups=16,
    cross_attention_dim=128,
)
# XL's levels, wide enough that the weights of the deepest are worth dividing.
NARROW_XL = dataclasses.replace(
    XL,
    block_out_channels=(16, 32, 64),
    layers_per_block=(1, 1, 1),
    down_depths=((), (1,), (2,)),
    mid_depths=(2,),
    up_depths=((2, 2), (1, 1), ()),
    num_attention_heads=(1, 2, 4),
    norm_num_groups=16,
    cross_attention_dim=128,
    addition_time_embed_dim=4,
    projection_class_embeddings_input_dim=10 + 6 * 4,
)


@pytest.mark.parametrize(
    ("config", "name", "count"),
    [
        (SD1, "1.5", 859_520_964),
        (SD2, "2.1", 865_910_724),
        (XL, "XL", 2_567_463_684),
    ],
)
def test_published_models_have_the_parameters_they_should(config, name, count):
    assert parse_unet(PUBLISHED[name]) == config
    state = nnx.state(abstract(lambda rngs: SDUNet(config, rngs=rngs)))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == count


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"norm_num_groups": 3}, "norm_num_groups=3 must divide block_out_channels, got 8"),
        ({"num_attention_heads": (3, 2)}, "num_attention_heads must divide"),
        ({"layers_per_block": (1,)}, "layers_per_block needs one entry for each"),
        ({"down_depths": ((1, 1), ())}, "down_depths needs 0 or 1 entries"),
        ({"up_depths": ((), (1,))}, "up_depths needs 0 or 2 entries"),
        ({"mid_layers": 3}, "mid_layers must be 0, 1 or 2"),
        ({"mid_layers": 1}, "mid_depths have fewer entries"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"remat_policy": "some"}, "remat_policy must be one of"),
    ],
)
def test_configurations_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **fields)


def inputs(config, batch=2):
    x = jax.random.normal(jax.random.key(1), (batch, 8, 8, config.in_channels))
    context = jax.random.normal(jax.random.key(2), (batch, 5, config.cross_attention_dim))
    added = {}
    if config.addition_time_embed_dim:
        added["pooled"] = jax.random.normal(jax.random.key(3), (batch, 10))
        added["time_ids"] = jnp.tile(jnp.asarray([64, 64, 0, 8, 64, 64]), (batch, 1))
    return x, jnp.arange(batch) * 499, context, added


def evaluate(unet, x, t, context, added, key=None):
    return unet(x, t, unet.project_context(context, **added), key)


def test_remat_changes_no_gradient():
    config = dataclasses.replace(ONE_LEVEL, addition_time_embed_dim=0, up_depths=((),))

    @nnx.jit
    @nnx.grad
    def gradients(unet):
        return jnp.mean(evaluate(unet, *inputs(config)) ** 2)

    remat = dataclasses.replace(config, remat=True, remat_policy="cheap")
    both = [SDUNet(c, rngs=nnx.Rngs(0)) for c in (config, remat)]
    plain, again = (nnx.to_pure_dict(gradients(unet)) for unet in both)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain, again)


def test_dropout_needs_a_key():
    unet = SDUNet(dataclasses.replace(ONE_LEVEL, dropout=0.5), rngs=nnx.Rngs(0))
    run = jax.jit(functools.partial(evaluate, unet, *inputs(ONE_LEVEL)))
    without = run()
    first, second = (run(jax.random.key(i)) for i in (0, 1))
    assert np.abs(first - without).max() > 1e-2
    assert np.abs(first - second).max() > 1e-2


def test_timestep_embedding():
    t = jnp.asarray([0, 3, 999])
    frequency = 10000.0 ** (-np.arange(4) / 3.0)
    angle = np.asarray(t)[:, None] * frequency
    expected = np.concatenate([np.sin(angle), np.cos(angle), np.zeros((3, 1))], axis=1)
    actual = timestep_embedding(t, 9, flip_sin_to_cos=False, freq_shift=1.0)
    np.testing.assert_allclose(actual, expected, atol=2e-4)
    flipped = timestep_embedding(t, 9, freq_shift=1.0)
    np.testing.assert_array_equal(flipped[:, :4], actual[:, 4:8])


def test_doubling_to_an_odd_size_drops_a_copy():
    x = jnp.arange(3.0).reshape(1, 3, 1, 1)
    assert doubled(x, (6, 2))[0, :, 0, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert doubled(x, (5, 1))[0, :, 0, 0].tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("config", [SD1, XL], ids=["1.5", "xl"])
def test_guided_steps_of_the_published_sizes_lower_for_every_platform(config):
    graphdef, state = nnx.split(abstract(lambda rngs: SDUNet(config, rngs=rngs)))
    params = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.bfloat16), state)
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim

    def struct(*shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype)

    added = (struct(2, pooled), struct(2, 6, dtype=jnp.int32)) if pooled else (None, None)
    context = struct(2, 77, config.cross_attention_dim)

    @jax.jit
    def step(params, x, t, context, pooled, time_ids):
        unet = nnx.merge(graphdef, params)
        conditioning = unet.project_context(context, pooled=pooled, time_ids=time_ids)
        given, free = unet(jnp.concatenate([x, x]), jnp.broadcast_to(t, 2), conditioning)
        return x - (free + 5.0 * (given - free))[None]

    x = struct(1, 64, 64, 4)
    t = struct(dtype=jnp.int32)
    exported = jax.export.export(step, platforms=PLATFORMS)(params, x, t, context, *added)
    assert exported.platforms == PLATFORMS
    assert [a.shape for a in exported.out_avals] == [x.shape]


def test_controlnet_lowers_for_every_platform():
    config = ControlNetConfig(SMALL, embedding_channels=(4, 8))
    graphdef, params = nnx.split(abstract(lambda rngs: ControlNet(config, rngs=rngs)))

    @jax.jit
    def step(params, x, t, context, image):
        network = nnx.merge(graphdef, params)
        return network.residuals(x, t, network.project_context(context), image, 0.5)

    x, t, context, _ = inputs(SMALL)
    image = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    exported = jax.export.export(step, platforms=PLATFORMS)(params, x, t, context, image)
    assert exported.platforms == PLATFORMS


SCRIPT = """
import sys
import jax, numpy as np
from flax import nnx
sys.path.insert(0, "tests/nn")
from test_sd_unet import NARROW_XL, evaluate, inputs
from dg2_jax.training.config import DevicesConfig
from dg2_jax.nn.sd_unet import SDUNet
from dg2_jax.models.architectures import ARCHITECTURES
from dg2_jax.training.sharding import make_layout

graphdef, state = nnx.split(SDUNet(NARROW_XL, rngs=nnx.Rngs(0)))
params = nnx.to_pure_dict(state)
tensor, fsdp = int(sys.argv[2]), int(sys.argv[3])
rules = ARCHITECTURES["sd_unet"].tensor_rules
layout = make_layout(DevicesConfig(data=1, fsdp=fsdp, tensor=tensor), 2, rules)
placed = layout.place_state(params)
kernel = placed["down_blocks"][2]["attentions"][0]["transformer_blocks"][0]["ff"]["inner"]["kernel"]
share = kernel.addressable_shards[0].data.size / kernel.size
run = jax.jit(lambda p, *a: evaluate(nnx.merge(graphdef, p), *a))
np.savez(sys.argv[1], output=run(placed, *inputs(NARROW_XL)), share=share)
"""


@pytest.mark.parametrize(("tensor", "fsdp"), [(2, 1), (2, 2)])
def test_divided_weights_give_the_same_output(tensor, fsdp, tmp_path):
    count = f" --xla_force_host_platform_device_count={tensor * fsdp}"
    command = [sys.executable, "-c", SCRIPT, tmp_path / "out.npz", str(tensor), str(fsdp)]
    flags = os.environ.get("XLA_FLAGS", "") + count
    subprocess.run(command, env=os.environ | {"XLA_FLAGS": flags}, check=True)
    expected = jax.jit(functools.partial(evaluate, SDUNet(NARROW_XL, rngs=nnx.Rngs(0))))
    with np.load(tmp_path / "out.npz") as actual:
        np.testing.assert_allclose(actual["output"], expected(*inputs(NARROW_XL)), atol=1e-4)
        assert actual["share"] == 1 / (tensor * fsdp)


def test_norms_take_their_statistics_in_two_passes():
    """Features far from zero, as trained weights make them: one pass would lose them."""
    x = 300.0 + jnp.sin(jnp.arange(64.0))[None, :]
    expected = (np.asarray(x, np.float64) - np.mean(x)) / np.std(np.asarray(x, np.float64))
    actual = layer_norm(64, 1e-5, nnx.Rngs(0))(x)
    np.testing.assert_allclose(actual, expected, atol=1e-3)
