"""The published latent shards."""

import numpy as np
import pytest
from torch_files import write_torch

from dg2_jax.data.latents import caption_dropout
from dg2_jax.interop.dg2_latents import LatentShards, read_shard
from dg2_jax.interop.torch_checkpoint import CheckpointError


def shard(path, n, seed, **changes):
    rng = np.random.default_rng(seed)
    content = {
        "latents": rng.normal(size=(n, 4, 6, 8)).astype(np.float16),
        "text_embd": rng.normal(size=(n, 7, 5)).astype(np.float16),
        "null_embd": np.full((1, 7, 5), 9.0, np.float16),
    }
    content.update(changes)
    return write_torch(path, content), content


def test_a_shard_is_read_as_nhwc(tmp_path):
    path, content = shard(tmp_path / "0.pt", 3, 0)
    found = read_shard(path)
    np.testing.assert_array_equal(found.latents, content["latents"].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(found.text, content["text_embd"])
    assert found.null.shape == (7, 5)


def test_a_folder_is_one_sequence_of_examples(tmp_path):
    _, first = shard(tmp_path / "0.pt", 3, 0)
    _, second = shard(tmp_path / "1.pt", 2, 1)
    source = LatentShards(tmp_path)
    assert len(source) == 5
    latents = np.concatenate([first["latents"], second["latents"]]).transpose(0, 2, 3, 1)
    for i in range(5):
        example = source[i]
        np.testing.assert_array_equal(example["mean"], latents[i])
        assert np.exp(0.5 * example["logvar"]).max() < 1e-12
    np.testing.assert_array_equal(source[4]["context"], second["text_embd"][1])
    with pytest.raises(IndexError):
        source[5]


def test_caption_dropout_uses_the_null_tokens(tmp_path):
    shard(tmp_path / "0.pt", 2, 0)
    source = LatentShards(tmp_path)
    transform = caption_dropout(source.null, 0.1)
    rng = np.random.default_rng(0)
    dropped = sum(transform(source[0], rng)["context"] is source.null for _ in range(2000))
    assert 150 < dropped < 250
    with pytest.raises(ValueError, match="share"):
        caption_dropout(source.null, 1.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"latents": None},
        {"text_embd": np.zeros((2, 7, 5), np.float32)},
        {"null_embd": np.zeros((6, 5), np.float32)},
    ],
)
def test_shards_that_do_not_fit_are_refused(tmp_path, changes):
    path, _ = shard(tmp_path / "0.pt", 3, 0, **changes)
    with pytest.raises(CheckpointError, match=r"0\.pt"):
        read_shard(path)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \.pt shards"):
        LatentShards(tmp_path)
