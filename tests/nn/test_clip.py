"""CLIP: recorded numbers of the reference implementation, causality, padding, loading, pixels."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from dg2_jax.interop.hf_text import find_folder, load_clip_text, load_clip_vision
from dg2_jax.nn.clip import ClipText, ClipTextConfig, ClipVisionConfig, preprocess
from tests.networks import random_network

FOLDER = Path(__file__).parents[1] / "golden" / "hf_clip_tiny"
REFERENCE = np.load(FOLDER / "reference.npz")
IDS = jnp.asarray(REFERENCE["input_ids"], jnp.int32)
MASK = jnp.asarray(REFERENCE["attention_mask"], bool)


@pytest.fixture(scope="module")
def text():
    return load_clip_text(FOLDER)[0]


@pytest.fixture
def folder(tmp_path):
    shutil.copy(FOLDER / "config.json", tmp_path)
    return tmp_path


def assert_close(actual, expected):
    """Largest error at most 1e-4 of the largest value."""
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()


def test_text_matches_the_reference(text):
    out = text(IDS, MASK)
    assert_close(out.last_hidden_state, REFERENCE["last_hidden_state"])
    assert_close(out.pooled, REFERENCE["pooler_output"])
    assert_close(out.projected, REFERENCE["text_embeds"])


def test_vision_matches_the_reference():
    vision, config = load_clip_vision(FOLDER)
    assert (config.image_size, config.patch_size) == (32, 8)
    out = vision(jnp.asarray(REFERENCE["pixel_values"].transpose(0, 2, 3, 1)))
    assert_close(out.last_hidden_state, REFERENCE["vision_last_hidden_state"])
    assert_close(out.projected, REFERENCE["image_embeds"])
    with pytest.raises(ValueError, match="sides of 32, not 16"):
        vision(jnp.zeros((1, 16, 16, 3)))


@pytest.mark.parametrize("masked", [False, True])
def test_no_token_sees_a_later_one(text, masked):
    """The gradient of place i in the input of place j is zero exactly where j > i."""
    mask = jnp.ones((1, 6), bool) if masked else None
    table = text.token_embedding(IDS[:1, :6])

    def hidden(rows):
        x = rows + text.position_embedding(jnp.arange(6))[None]
        for layer in text.layers:
            x = layer(x, mask)
        return x[0, :, 0]

    sees = np.abs(jax.jacrev(hidden)(table)[:, 0]).max(axis=-1) > 0
    np.testing.assert_array_equal(sees, np.tril(np.ones((6, 6), bool)))


def test_padding_is_never_seen(text):
    changed = jnp.where(MASK, IDS, 7)
    real = np.asarray(MASK)
    a, b = text(IDS, MASK), text(changed, MASK)
    np.testing.assert_array_equal(
        np.asarray(a.last_hidden_state)[real], np.asarray(b.last_hidden_state)[real]
    )
    np.testing.assert_array_equal(a.projected, b.projected)


def test_masked_tokens_are_not_attended_to(text):
    """Even earlier ones, which causality alone would let through."""
    hole = jnp.ones((1, 8), bool).at[0, 2].set(False)
    ids = IDS[:1, :8]
    a, b = (text(i, hole).last_hidden_state for i in (ids, ids.at[0, 2].set(99)))
    np.testing.assert_array_equal(a[:, 3:], b[:, 3:])


def test_where_the_sentence_is_read(text):
    """At the first end token; by the legacy configuration, at the first highest id."""
    ids = jnp.asarray([[198, 5, 199, 7, 199, 1]], jnp.int32)
    out = text(ids)
    np.testing.assert_array_equal(out.pooled, out.last_hidden_state[:, 2])
    config = ClipTextConfig(8, 16, 8, 1, 2, vocab_size=200, eos_token_id=2)
    legacy = random_network(lambda rngs: ClipText(config, projection=False, rngs=rngs))
    out = legacy(ids.at[0, 1].set(2))
    np.testing.assert_array_equal(out.pooled, out.last_hidden_state[:, 2])
    assert out.projected is None


def test_earlier_layers_with_and_without_the_last_norm(text):
    shorter = nnx.merge(*nnx.split(text))  # the same network without its last layer
    shorter.layers = nnx.List(list(shorter.layers)[:-1])
    out, expected = text(IDS, skipped_layers=1), shorter(IDS).last_hidden_state
    assert_close(out.last_hidden_state, expected)
    hidden = text(IDS, skipped_layers=1, final_norm=False).last_hidden_state
    assert_close(text.final_layer_norm(hidden), expected)
    np.testing.assert_array_equal(out.projected, text(IDS).projected)
    with pytest.raises(ValueError, match="skipped_layers must be from 0 to"):
        text(IDS, skipped_layers=99)


def test_configurations():
    whole = {
        "projection_dim": 3,
        "text_config": {"hidden_size": 8, "num_attention_heads": 2, "hidden_act": "gelu"},
        "text_config_dict": {"hidden_size": 16},
        "vision_config": {"hidden_size": 24, "num_attention_heads": 2, "patch_size": 16},
    }
    text, vision = ClipTextConfig.from_dict(whole), ClipVisionConfig.from_dict(whole)
    assert (text.hidden_size, text.hidden_act, text.projection_dim) == (16, "gelu", 3)
    assert (vision.hidden_size, vision.patch_size, vision.projection_dim) == (24, 16, 3)
    with pytest.raises(ValueError, match="not a multiple of 7 heads"):
        ClipTextConfig.from_dict({"hidden_size": 8, "num_attention_heads": 7})


def test_shards(folder, text):
    tensors = load_file(FOLDER / "model.safetensors")
    halves = [dict(list(tensors.items())[i::2]) for i in (0, 1)]
    for i, half in enumerate(halves):
        save_file(half, folder / f"{i}.safetensors")
    index = {k: f"{i}.safetensors" for i, half in enumerate(halves) for k in half}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    sharded, _ = load_clip_text(folder)
    np.testing.assert_array_equal(sharded(IDS).projected, text(IDS).projected)


def test_text_tower_alone(folder, text):
    tensors = load_file(FOLDER / "model.safetensors")
    alone = {k: v for k, v in tensors.items() if k.startswith("text_model.")}
    save_file(alone, folder / "model.safetensors")
    config = json.loads((FOLDER / "config.json").read_text())["text_config"]
    (folder / "config.json").write_text(json.dumps(config))
    model, _ = load_clip_text(folder)
    assert model(IDS).projected is None
    np.testing.assert_array_equal(model(IDS).pooled, text(IDS).pooled)


def test_weights_that_do_not_fit(folder):
    with pytest.raises(FileNotFoundError, match=r"expected model\.safetensors"):
        load_clip_text(folder)
    tensors = load_file(FOLDER / "model.safetensors")
    tensors["text_model.extra"] = tensors.pop("text_projection.weight")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"no parameter for text_model.extra; no tensor for projection.weight"
    ):
        load_clip_text(folder)


def test_models_that_are_nowhere():
    with pytest.raises(FileNotFoundError, match="neither a folder nor a hub id"):
        find_folder("no such thing")
    with pytest.raises(FileNotFoundError, match=r"'nobody/nothing'.*Put config.json"):
        find_folder("nobody/nothing")


def test_preprocessing():
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    wide = np.zeros((2, 40, 80, 3), np.uint8)
    wide[:, :, 20:60] = (255, 0, 51)  # the middle square
    pixels = preprocess(wide, 32)
    assert pixels.shape == (2, 32, 32, 3)
    assert pixels.dtype == np.float32
    expected = (np.array([1.0, 0.0, 0.2]) - mean) / std
    np.testing.assert_allclose(pixels[:, :, 4:-4], np.broadcast_to(expected, (2, 32, 24, 3)), 1e-5)
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), np.uint8)
    unscaled = (image[:, :, 8:40] / 255 - mean) / std  # the short side fits: only a crop
    np.testing.assert_allclose(preprocess(image, 32), unscaled, atol=1e-5)
    with pytest.raises(ValueError, match="uint8"):
        preprocess(wide / 255.0)
