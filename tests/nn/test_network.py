"""A network that is described instead of built is the same network."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax import program_cache
from dg2_jax.interop import weights
from dg2_jax.nn.bert import Bert
from dg2_jax.nn.bert_config import BertConfig
from dg2_jax.nn.modules import split
from dg2_jax.nn.network import Design, Network
from tests.networks import random_network

CONFIG = BertConfig(50, 16, 32, num_hidden_layers=1, num_attention_heads=2)
DESIGN = Design("dg2_jax.nn.bert:Bert", CONFIG)


@pytest.fixture
def module():
    return random_network(lambda rngs: Bert(CONFIG, rngs=rngs))


@pytest.mark.parametrize("kept", [False, True])
def test_it_has_the_structure_and_the_shapes_of_the_module(module, tmp_path, kept):
    before = program_cache._folder
    program_cache.enable(tmp_path if kept else None)
    try:
        for _ in range(2):  # the second reads what the first wrote
            described, (built, params) = Network(DESIGN), split(module)
            assert described.graphdef == built.graphdef
            assert described.shapes == jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params
            )
    finally:
        program_cache.enable(before)
    assert len(list(tmp_path.iterdir())) == kept


def test_it_reads_what_a_module_reads(module):
    """Of tensors in PyTorch's layout, under the module's own names."""
    layers = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
    tensors = {}
    for slot in Network(DESIGN).slots:
        *owner, name = map(str, slot.path)
        shape = slot.shape[::-1] if name == "kernel" else slot.shape
        values = np.random.default_rng(len(tensors)).normal(size=shape).astype(np.float32)
        tensors[".".join([*owner, layers.get(name, name)])] = values
    weights.load_params(module, tensors)
    read = weights.read_params(Network(DESIGN), "Bert", tensors)
    jax.tree.map(np.testing.assert_array_equal, read, split(module)[1])
    del tensors["norm.weight"]
    with pytest.raises(ValueError, match=r"do not fit Bert: .* no tensor for norm\.weight"):
        weights.read_params(Network(DESIGN), "Bert", tensors)


def test_networks_of_equal_designs_are_equal_and_copies_are_small(module):
    network = Network(DESIGN)
    assert network.bind(split(module)[1])(jnp.zeros((1, 3), jnp.int32)).shape == (1, 3, 16)
    assert network == Network(Design("dg2_jax.nn.bert:Bert", CONFIG))
    assert network != Network(Design("dg2_jax.nn.bert:Bert", CONFIG, "bfloat16"))
    data = pickle.dumps(network)
    assert len(data) < 1000
    assert pickle.loads(data) == network
