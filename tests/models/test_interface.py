"""Every architecture fulfils the interface, and its entry is true of its network."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.config import to_dict
from dg2_jax.diffusion.reuse import DeepNetwork
from dg2_jax.models import model
from dg2_jax.models.architectures import ARCHITECTURES
from dg2_jax.models.interface import LORA_TARGETS, DenoiserNetwork, TensorRules
from dg2_jax.models.model import ModelError
from dg2_jax.models.quantization import QuantizedNetwork, quantize
from dg2_jax.models.weights_file import flatten
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.modules import bound, split
from tests import tiny_model
from tests.networks import random_network, random_params

LENGTH = 3


@pytest.fixture(scope="module", params=ARCHITECTURES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def config(name):
    return tiny_model.DENOISERS[name][1]


@pytest.fixture(scope="module")
def network(name, config):
    architecture = ARCHITECTURES[name]
    return random_network(lambda rngs: architecture.constructor(config, rngs=rngs))


def inputs(name, config, side, batch=2):
    rng = np.random.default_rng(0)
    width = ARCHITECTURES[name].context_dim(config)
    x = jnp.asarray(rng.normal(size=(batch, side, side, config.in_channels)), jnp.float32)
    context = jnp.asarray(rng.normal(size=(batch, LENGTH, width)), jnp.float32)
    return x, jnp.array([3, 900])[:batch], context, jnp.arange(LENGTH)[None] < jnp.array([[2], [3]])


def test_the_registry_is_complete():
    """Of every network there is a tiny one for the tests."""
    assert tiny_model.DENOISERS.keys() == ARCHITECTURES.keys()
    for name, architecture in ARCHITECTURES.items():
        assert (architecture.constructor, architecture.config) == (
            tiny_model.DENOISERS[name][0],
            type(tiny_model.DENOISERS[name][1]),
        )


def test_signatures(network):
    assert isinstance(network, DenoiserNetwork)
    for method in ("project_context", "null_context", "__call__"):
        asked = list(inspect.signature(getattr(DenoiserNetwork, method)).parameters)
        offered = list(inspect.signature(getattr(type(network), method)).parameters)
        assert offered[: len(asked)] == asked


def test_it_predicts_and_every_condition_can_be_given(name, config, network):
    x, t, context, mask = inputs(name, config, 4 * config.latent_multiple)
    more = {"pooled": jnp.ones((2, 7)), "time_ids": jnp.ones((2, 6))}

    @jax.jit
    def predict(x, context, mask, more):
        return network(x, t, network.project_context(context, mask, **more))

    output = predict(x, context, mask, more)
    assert output.shape == x.shape
    assert np.isfinite(output).all()
    conditioning = network.project_context(context, mask, **more)
    assert {len(leaf) for leaf in jax.tree.leaves(conditioning)} == {2}


def test_null_context_and_padding_are_as_said(name, config, network):
    architecture = ARCHITECTURES[name]
    null = network.null_context(2, LENGTH)
    assert (null is not None) == architecture.has_null_context
    x, t, context, mask = inputs(name, config, 4)
    if null is not None:
        assert [a.shape for a in null] == [context.shape, mask.shape]
    predict = jax.jit(lambda context: network(x, t, network.project_context(context, mask)))
    padded = jnp.where(mask[:, :, None], context, 9.0)
    distance = np.abs(predict(context) - predict(padded)).max()
    assert distance < 1e-4 if architecture.masks_padding else distance > 1e-2


def test_latent_multiple_is_the_least(name, config, network):
    multiple = config.latent_multiple
    for side in range(1, 2 * multiple):
        x, t, context, mask = inputs(name, config, side)

        def evaluate(x=x, t=t, context=context, mask=mask):
            return jax.eval_shape(
                lambda: network(x, t, network.project_context(context, mask))
            ).shape

        if side % multiple:
            with pytest.raises(ValueError, match=f"multiples of {multiple}"):
                evaluate()
        else:
            assert evaluate() == x.shape


def test_deep_features_are_as_said(name, config, network):
    assert isinstance(network, DeepNetwork) == ARCHITECTURES[name].has_deep_features(config)


def test_lora_targets_are_linear_layers_of_the_network(name, config):
    architecture = ARCHITECTURES[name]
    params = random_params(lambda rngs: architecture.constructor(config, rngs=rngs))
    assert architecture.lora_targets.keys() == set(LORA_TARGETS)
    for ends in architecture.lora_targets.values():
        for end in ends:
            kernels = [leaf for n, leaf in flatten(params).items() if n.endswith(f".{end}.kernel")]
            assert kernels, end
            assert {kernel.ndim for kernel in kernels} == {2}


def test_tensor_rules_match_layers_whose_product_stays_whole(name, config):
    """What one layer's outputs are divided along is what the next layer takes in."""
    architecture = ARCHITECTURES[name]
    params = random_params(lambda rngs: architecture.constructor(config, rngs=rngs))
    rules = architecture.tensor_rules
    axes = {n: rules.axis(n) for n in flatten(params)}
    for layers, axis in ((rules.by_outputs, -1), (rules.by_inputs, -2)):
        for layer in layers:
            matches = [n for n in axes if n.endswith(f".{layer}.kernel")]
            assert matches, layer
            assert {axes[n] for n in matches} == {axis}
    assert not [n for n, axis in axes.items() if axis is not None and not n.endswith(".kernel")]


def test_rules_go_by_whole_names():
    rules = TensorRules(by_outputs=("q",), by_inputs=("attention.wo",))
    assert rules.axis("q.kernel") == rules.axis("mu.blocks.0.q.kernel") == -1
    assert rules.axis("blocks.0.attention.wo.kernel") == -2
    for other in ("blocks.0.cross_q.kernel", "blocks.0.q.bias", "blocks.0.wo.kernel"):
        assert rules.axis(other) is None


def test_a_quantized_network_fulfils_it_too(name, config, network):
    structure, params = split(network)
    kept = QuantizedNetwork(structure.structure).bind(quantize(params, "bfloat16"))
    x, t, context, mask = inputs(name, config, 4)
    conditioning = kept.project_context(context, mask, pooled=jnp.ones((2, 7)))
    output = jax.jit(lambda x: kept(x, t, conditioning))(x)
    assert output.shape == x.shape
    assert (kept.null_context(2, LENGTH) is None) == (network.null_context(2, LENGTH) is None)


def description(name="unet", **changes):
    return {
        "model": name,
        "denoiser": to_dict(tiny_model.DENOISERS[name][1]),
        "diffusion": {"schedule": "curved", "prediction_type": "v_prediction"},
        "default_size": 32,
    } | changes


@pytest.fixture(scope="module")
def vae():
    return random_network(lambda rngs: AutoencoderKL(tiny_model.VAE, rngs=rngs))


def test_a_model_in_memory_is_that_of_the_folder(pipe, vae):
    """`tiny_model.save` writes these weights."""
    params = pipe.model.params["ema"]
    built = model.create(description(), bound(vae), lambda name, shapes: params)
    assert built.denoiser == pipe.model.denoiser
    assert built.autoencoder.graphdef == pipe.model.autoencoder.graphdef
    assert built.latent_shape == pipe.model.latent_shape == (4, 4, 4)
    assert built.size_multiple == 16  # 2 cells of 8 pixels
    assert built.has_deep_levels
    assert list(built.params) == ["ema"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "vit"}, "model must be one of unet, dit, dg2_unet, sd_unet; got 'vit'"),
        ({"denoiser": {"depth": 2}}, r"unknown key denoiser\.depth; denoiser allows: in_channels"),
        ({"diffusion": {"schedule": "curved"}}, "lacks the key 'prediction_type'"),
        ({"denoiser": {"in_channels": 3}}, "takes 3 channels, the autoencoder has 4"),
    ],
)
def test_what_cannot_be_built_is_named(vae, changes, message):
    with pytest.raises(ModelError, match=message):
        model.create(description(**changes), bound(vae), lambda name, shapes: shapes)
