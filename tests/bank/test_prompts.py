"""The prompts that ship: how many, how varied, and the index that goes with them."""

import itertools
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from dg2_jax.bank import builder, store

ENTRIES = builder.read_prompts()


@pytest.fixture(scope="module")
def stored():
    return store.read(builder.SHIPPED)


def test_enough_prompts_in_every_category_and_split():
    counts = Counter((entry.category, entry.split) for entry in ENTRIES)
    categories = {category for category, _ in counts}
    assert len(ENTRIES) >= 2400
    assert len(categories) >= 24
    assert {"volcano", "bamboo forest", "qilin", "elf"} <= categories
    assert len(counts) == 2 * len(categories)
    assert min(counts.values()) >= 30
    assert max(counts.values()) <= 1.5 * min(counts.values())


def test_prompts_have_4_to_30_words():
    lengths = [len(entry.prompt.split()) for entry in ENTRIES]
    assert min(lengths) >= 4
    assert max(lengths) <= 30
    assert np.mean(lengths) >= 8


def test_prompts_do_not_start_alike():
    starts = Counter(tuple(entry.prompt.lower().split()[:3]) for entry in ENTRIES)
    assert starts.most_common(1)[0][1] <= 0.005 * len(ENTRIES)
    assert len(starts) >= 0.95 * len(ENTRIES)


def test_splits_share_no_near_duplicates(stored):
    vectors = stored.vectors.astype(np.float32)
    train = np.array([entry.split == "train" for entry in stored.entries])
    nearest = (vectors[~train] @ vectors[train].T).max(axis=1)
    assert nearest.max() < 0.9
    assert np.mean(nearest) < 0.7


def test_no_prompt_repeats_most_word_pairs_of_another():
    pairs = [set(itertools.pairwise(e.prompt.lower().split())) for e in ENTRIES]
    holders: dict = {}
    for i, own in enumerate(pairs):
        for pair in own:
            holders.setdefault(pair, []).append(i)
    shared = Counter((a, b) for held in holders.values() for a in held for b in held if a < b)
    worst = [n / min(len(pairs[a]), len(pairs[b])) for (a, b), n in shared.items() if n >= 3]
    assert sum(ratio >= 0.75 for ratio in worst) == 0


def test_shipped_index_is_of_these_prompts(stored):
    assert stored.entries == ENTRIES
    assert stored.encoder == "minilm"
    assert stored.vectors.dtype == np.float16
    assert stored.vectors.shape == (len(ENTRIES), 384)


def test_shipped_vectors_are_the_encoders(stored, encoder):
    some = range(0, len(ENTRIES), 100)
    fresh = builder.embed(encoder, [ENTRIES[i].prompt for i in some])
    np.testing.assert_allclose(stored.vectors[some].astype(np.float32), fresh, atol=1e-3)


def test_no_pickle_anywhere():
    for path in builder.SHIPPED.glob("*.npy"):
        np.load(path, allow_pickle=False)
    code = [path.read_text() for path in builder.HERE.glob("*.py")]
    assert not any("allow_pickle=True" in text or "import pickle" in text for text in code)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train/a.txt": "one\n\ntwo\n"}, "line 2 is empty"),
        ({"train/a.txt": "one\nOne\n"}, "line 2 is also"),
        ({"train/a.txt": "one\n", "validation/a.txt": "one\n"}, "is also"),
    ],
)
def test_bad_prompt_files_are_named(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        builder.read_prompts(tmp_path)


def test_no_prompts_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no prompts"):
        builder.read_prompts(tmp_path)


def test_build_command(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "sea_cliff.txt").write_text("a cliff\na  headland\n")
    command = [sys.executable, "-m", "bank.build", f"--prompts={tmp_path}"]
    subprocess.run([*command, f"--out={tmp_path / 'index'}"], check=True, capture_output=True)
    built = store.read(tmp_path / "index")
    assert [e.prompt for e in built.entries] == ["a cliff", "a headland"]
    assert built.entries[0].category == "sea cliff"
