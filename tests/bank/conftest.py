"""One loaded bank and one encoder for all bank tests; a small bank with made-up vectors."""

import numpy as np
import pytest

from dg2_jax.bank import Bank, store
from dg2_jax.text.loading import load_text_encoder


@pytest.fixture(scope="session")
def encoder():
    return load_text_encoder("minilm")


@pytest.fixture(scope="session")
def shipped(encoder):
    return Bank.load(encoder=encoder)


class WordEncoder:
    """Stands in for a text encoder: a random vector for each word, summed."""

    name = "words"

    def encode(self, prompts):
        rows = [sum(self._word(word) for word in prompt.lower().split()) for prompt in prompts]
        pooled = np.stack(rows).astype(np.float32)
        return _Encoding(pooled / np.linalg.norm(pooled, axis=1, keepdims=True))

    def _word(self, word):
        seed = int.from_bytes(word.encode(), "big") % 2**32
        return np.random.default_rng(seed).standard_normal(32)


class _Encoding:
    def __init__(self, pooled):
        self.pooled = pooled


_NUMBERS = "one two three four five six seven eight nine ten eleven twelve"


@pytest.fixture
def words_folder(tmp_path):
    """A bank of 4 categories x 12 prompts x 2 splits, by WordEncoder."""
    entries = [
        store.make_entry(f"{category} {thing} {split}", category, split)
        for split in store.SPLITS
        for category in ("alpha", "beta", "gamma", "delta")
        for thing in _NUMBERS.split()
    ]
    vectors = WordEncoder().encode([entry.prompt for entry in entries]).pooled
    folder = tmp_path / "words"
    store.write(folder, store.StoredBank("words", entries, vectors.astype(np.float16)))
    return folder


@pytest.fixture
def words(words_folder, tmp_path):
    return Bank.load(words_folder, user=tmp_path / "user", encoder=WordEncoder())


@pytest.fixture
def reload(words_folder, tmp_path):
    """Loads the words bank with its user folder again."""
    return lambda: Bank.load(words_folder, user=tmp_path / "user", encoder=WordEncoder())
