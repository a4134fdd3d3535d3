"""The text encoders' common interface, on the embedded MiniLM."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from dg2_jax.text import check_prompts, load_text_encoder

REFERENCE = np.load(Path(__file__).parent / "golden" / "minilm_reference.npz")
SENTENCES = [str(s) for s in REFERENCE["sentences"]]
LONG = "a red rock under a blue sky " * 4  # 28 tokens


@pytest.fixture(scope="module")
def minilm():
    return load_text_encoder("minilm", 24)


@pytest.fixture(scope="module")
def chunked():
    return load_text_encoder("minilm", 16, long_prompts="chunk")


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


def test_a_prompt_does_not_depend_on_its_company(minilm):
    together = minilm.encode(SENTENCES)
    for i in (0, 1, 7):
        alone = minilm.encode([SENTENCES[i]])
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], all_[i], atol=1e-5)


def test_many_prompts_run_in_batches(minilm, monkeypatch):
    monkeypatch.setattr("dg2_jax.text._BATCH", 4)
    for one, all_ in zip(
        minilm.encode(SENTENCES + SENTENCES[::-1]), minilm.encode(SENTENCES), strict=True
    ):
        np.testing.assert_allclose(one[:8], all_, atol=1e-5)
        np.testing.assert_allclose(one[8:], all_[::-1], atol=1e-5)


def test_the_empty_prompt_is_a_prompt(minilm):
    context, mask, pooled = minilm.encode([""])
    assert np.asarray(mask).sum() == 2  # start and end
    assert np.isfinite(context).all()
    np.testing.assert_allclose(np.linalg.norm(pooled), 1.0, rtol=1e-5)


def test_cutting_says_what_is_lost(minilm):
    with pytest.warns(UserWarning, match=r"22 tokens.*'minilm'.*'rock under a blue sky '"):
        cut = minilm.encode([LONG])
    kept = LONG[: len(LONG) - len("rock under a blue sky ")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = minilm.encode([kept])
    for one, other in zip(cut, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_chunks_lose_nothing(chunked):
    words = LONG.split()
    pieces = [" ".join(words[:14]), " ".join(words[14:])]
    context, mask, pooled = chunked.encode([LONG, "lava"])
    apart = chunked.encode(pieces)
    assert context.shape == (2, 32, 384)
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


def test_bad_requests(minilm):
    with pytest.raises(ValueError, match="write"):
        minilm.encode("one string")
    with pytest.raises(ValueError, match=r"max_length must lie in 3\.\.512, not 513"):
        load_text_encoder("minilm", 513)
    with pytest.raises(ValueError, match="'cut' or 'chunk'"):
        load_text_encoder("minilm", long_prompts="wrap")  # type: ignore[arg-type]
