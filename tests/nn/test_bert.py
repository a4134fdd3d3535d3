"""BERT: recorded numbers of the published MiniLM, padding, configuration errors."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.interop.hf_text import load_bert, minilm_folder, verify_sha256
from dg2_jax.nn.bert import Bert, BertConfig
from dg2_jax.nn.pooling import mean_pool
from tests.networks import random_network

GOLDEN = Path(__file__).parents[1] / "golden" / "minilm_reference.npz"
TINY = BertConfig(
    50, 16, 32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=12
)


def test_matches_the_published_model():
    reference = np.load(GOLDEN)
    bert = load_bert(minilm_folder())
    model, config = bert.module, bert.config
    assert (config.hidden_size, config.num_hidden_layers, config.layer_norm_eps) == (384, 6, 1e-12)
    mask = jnp.asarray(reference["attention_mask"], bool)
    hidden = jax.jit(model.__call__)(jnp.asarray(reference["input_ids"], jnp.int32), mask)
    expected = reference["last_hidden_state"].astype(np.float32)
    np.testing.assert_allclose(np.asarray(hidden)[mask], expected[mask], atol=2e-3)
    vectors = mean_pool(hidden, mask)
    np.testing.assert_allclose(vectors, reference["sentence_embedding"], atol=1e-5)
    np.testing.assert_allclose(vectors @ vectors.T, reference["cosine"], atol=1e-5)


def test_padding_is_never_seen():
    model = random_network(lambda rngs: Bert(TINY, rngs=rngs))
    ids = jax.random.randint(jax.random.key(0), (2, 10), 0, 50)
    mask = jnp.asarray([[True] * 4 + [False] * 6, [True] * 7 + [False] * 3])
    other = jnp.where(mask, ids, (ids + 7) % 50)
    out, changed = model(ids, mask), model(other, mask)
    np.testing.assert_allclose(np.asarray(out)[mask], np.asarray(changed)[mask], atol=1e-6)
    np.testing.assert_allclose(out[:1, :4], model(ids[:1, :4]), atol=1e-5)
    np.testing.assert_allclose(mean_pool(out, mask), mean_pool(changed, mask), atol=1e-6)


def test_every_real_token_sees_every_other():
    model = random_network(lambda rngs: Bert(TINY, rngs=rngs))
    ids = jnp.arange(8)[None]
    for position in range(8):
        changed = ids.at[0, position].set(40)
        moved = np.abs(model(ids) - model(changed)).max(axis=(0, 2))
        assert (moved > 1e-5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": 5}, "not a multiple of 5 heads"),
        ({"hidden_act": "swish!"}, "hidden_act 'swish!' is none of"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ],
)
def test_bad_configurations(change, message):
    with pytest.raises(ValueError, match=message):
        BertConfig.from_dict({"hidden_size": 16, "num_attention_heads": 4} | change)


def test_wrong_weights_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match="no weights at"):
        verify_sha256(path, "0" * 64)
    path.write_bytes(b"not the published ones")
    with pytest.raises(ValueError, match="expected 0000"):
        verify_sha256(path, "0" * 64)
