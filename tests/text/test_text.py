"""The text encoders' common interface: the embedded MiniLM, and tiny models for the mechanics."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from dg2_jax.interop.hf_text import load_tokenizer, minilm_folder
from dg2_jax.nn.bert import Bert, BertConfig
from dg2_jax.nn.modules import split
from dg2_jax.nn.network import Bound
from dg2_jax.text.encoder import check_prompts
from dg2_jax.text.loading import bert_encoder, from_config, load_text_encoder

GOLDEN = Path(__file__).parents[1] / "golden"
REFERENCE = np.load(GOLDEN / "minilm_reference.npz")
SENTENCES = [str(s) for s in REFERENCE["sentences"]]
LONG = "a red rock under a blue sky " * 4  # 28 tokens


@pytest.fixture(scope="module")
def minilm():
    return load_text_encoder("minilm", 24)


def tiny(max_length, **options):
    """MiniLM's tokenizer on a small random BERT, which compiles in no time."""
    config = BertConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    tokenizer = load_tokenizer(minilm_folder(), config.vocab_size)
    model = Bert(config, rngs=nnx.Rngs(0))
    return bert_encoder("tiny", Bound(*split(model), config), tokenizer, max_length, **options)


@pytest.fixture(scope="module")
def encoder():
    return tiny(24)


@pytest.fixture(scope="module")
def chunked():
    return tiny(16, long_prompts="chunk")


@pytest.fixture
def clip_folder(tmp_path):
    """The tiny CLIP with an alphabet for a vocabulary, in CLIP's older pair of files."""
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GOLDEN / "hf_clip_tiny" / name, tmp_path)
    letters = "abcdefghijklmnopqrstuvwxyz,"
    vocab = {token: i for i, token in enumerate([*letters, *(c + "</w>" for c in letters)])}
    vocab |= {"re": 60, "red</w>": 61, "<|startoftext|>": 198, "<|endoftext|>": 199}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    return tmp_path


def test_token_ids_are_the_published_ones(minilm):
    tokens = minilm.tokenize(SENTENCES)
    width = REFERENCE["input_ids"].shape[1]
    assert tokens.ids.shape == tokens.mask.shape == (8, 24)
    np.testing.assert_array_equal(tokens.ids[:, :width], REFERENCE["input_ids"])
    np.testing.assert_array_equal(tokens.mask[:, :width], REFERENCE["attention_mask"])
    assert not tokens.mask[:, width:].any()


def test_encodings_are_the_published_ones(minilm):
    context, mask, pooled = minilm.encode(SENTENCES)
    assert context.shape == (8, 24, 384)
    assert (minilm.context_dim, minilm.max_length) == (384, 24)
    real = REFERENCE["attention_mask"].astype(bool)
    hidden = REFERENCE["last_hidden_state"].astype(np.float32)
    np.testing.assert_allclose(context[:, : real.shape[1]][real], hidden[real], atol=2e-3)
    np.testing.assert_allclose(pooled, REFERENCE["sentence_embedding"], atol=1e-5)
    np.testing.assert_allclose(pooled @ pooled.T, REFERENCE["cosine"], atol=1e-5)
    assert not np.asarray(context)[~np.asarray(mask)].any()


def test_a_prompt_does_not_depend_on_its_company(encoder):
    together = encoder.encode(SENTENCES)
    for i in (0, 1, 7):
        alone = encoder.encode([SENTENCES[i]])
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], all_[i], atol=1e-5)


def test_many_prompts_run_in_batches(encoder, monkeypatch):
    monkeypatch.setattr("dg2_jax.text.encoder._BATCH", 4)
    for one, all_ in zip(
        encoder.encode(SENTENCES + SENTENCES[::-1]), encoder.encode(SENTENCES), strict=True
    ):
        np.testing.assert_allclose(one[:8], all_, atol=1e-5)
        np.testing.assert_allclose(one[8:], all_[::-1], atol=1e-5)


def test_the_empty_prompt_is_a_prompt(encoder):
    context, mask, pooled = encoder.encode([""])
    assert np.asarray(mask).sum() == 2  # start and end
    assert np.isfinite(context).all()
    np.testing.assert_allclose(np.linalg.norm(pooled), 1.0, rtol=1e-5)


def test_cutting_says_what_is_lost(encoder):
    with pytest.warns(UserWarning, match=r"22 tokens.*'tiny'.*'red rock under a blue sky '"):
        cut = encoder.encode([LONG])
    kept = LONG[: len(LONG) - len("red rock under a blue sky ")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = encoder.encode([kept])
    for one, other in zip(cut, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_chunks_lose_nothing(chunked):
    words = LONG.split()
    pieces = [" ".join(words[:14]), " ".join(words[14:])]
    context, mask, pooled = chunked.encode([LONG, "lava"])
    apart = chunked.encode(pieces)
    assert context.shape == (2, 32, 16)
    assert mask.sum(axis=1).tolist() == [32, 3]
    np.testing.assert_allclose(context[0], np.concatenate(apart.context), atol=1e-5)
    mean = np.mean(apart.pooled, axis=0)
    np.testing.assert_allclose(pooled[0], mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_allclose(pooled[1], chunked.encode(["lava"]).pooled[0], atol=1e-5)
    np.testing.assert_array_equal(chunked.tokenize([LONG, "lava"]).mask, mask)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("one string", r"write \[prompt\]"),
        ([], "at least one string"),
        (["a", None], r"prompts\[1\] must be a string, not None"),
        (3, "at least one string, not 3"),
    ],
)
def test_bad_prompts(prompts, message):
    with pytest.raises(ValueError, match=message):
        check_prompts(prompts)


def test_bad_requests(encoder):
    with pytest.raises(ValueError, match="write"):
        encoder.encode("one string")
    with pytest.raises(ValueError, match=r"max_length must lie in 3\.\.64, not 65"):
        tiny(65)
    with pytest.raises(ValueError, match="'cut' or 'chunk', not 'wrap'"):
        tiny(16, long_prompts="wrap")


def test_clip_from_a_folder(clip_folder):
    clip = load_text_encoder(str(clip_folder))
    prompts = ["Red, red", "a"]
    tokens = clip.tokenize(prompts)
    assert tokens.ids[0, :5].tolist() == [198, 61, 53, 61, 199]  # "," ends a word
    assert tokens.ids[1, :3].tolist() == [198, 27, 199]
    assert (tokens.ids[~tokens.mask] == 199).all()  # filled up with the end token
    context, mask, pooled = clip.encode(prompts)
    assert context.shape == (2, 20, 32)
    assert mask.sum(axis=1).tolist() == [5, 3]
    assert np.abs(context[:, 5:]).min(axis=-1).all()  # padding's embeddings are kept
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(clip.encode(["a"]).context[0], context[1], atol=1e-5)
    with pytest.warns(UserWarning, match="18 tokens.*ignored: 'cd'"):
        clip.encode(["red " * 18 + "cd"])
    (clip_folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "a"}))
    assert load_text_encoder(str(clip_folder)).tokenize(["a"]).ids[0, -1] == 0


def test_clip_in_pieces(clip_folder):
    clip = load_text_encoder(str(clip_folder), long_prompts="chunk")
    context, mask, _ = clip.encode(["red " * 20, "a"])
    assert context.shape == (2, 40, 32)
    assert mask.sum(axis=1).tolist() == [24, 3]
    np.testing.assert_allclose(context[0, 20:], clip.encode(["red red"]).context[0], atol=1e-5)


def test_other_folders(clip_folder):
    (clip_folder / "vocab.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no tokenizer.json, nor vocab.json"):
        load_text_encoder(str(clip_folder))
    (clip_folder / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(ValueError, match=r"model_type must be 'bert'.* not 't5'"):
        load_text_encoder(str(clip_folder))
    (clip_folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_text_encoder(str(clip_folder))


def test_of_a_models_configuration(clip_folder):
    config = {"name": str(clip_folder)}
    clip = load_text_encoder(str(clip_folder))
    assert from_config(config).max_length == clip.max_length
    assert from_config(config | {"max_length": 7}).max_length == 7
    masked = from_config(config).encode(["a"])
    np.testing.assert_array_equal(masked.mask, clip.encode(["a"]).mask)
    assert not masked.mask.all()
    attended = from_config(config | {"mask_padding": False}).encode(["a"])
    assert attended.mask.all()
    np.testing.assert_array_equal(attended.context, masked.context)


def test_clip_that_is_not_here():
    with pytest.raises(FileNotFoundError, match=r"openai/clip-vit-base-patch32.*Put config"):
        load_text_encoder("clip")
