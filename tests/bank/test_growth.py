"""Banks that grow: add, remove, save, load; crashes, damage; large ones."""

import json
import os
import time

import numpy as np
import pytest

from dg2_jax.bank import Bank, builder, store
from dg2_jax.bank.search import VectorIndex
from dg2_jax.bank.synthetic import DIMENSION, ClusteredVectors, effective_dimension


def best(a_bank, prompt, **options):
    return a_bank.match(prompt, temperature=0, min_similarity=-1, **options).chosen


def test_add_and_remove(words):
    before = len(words)
    ids = words.add(["a purple teapot", "a  green   kettle"], "Kitchen_Things")
    assert len(words) == before + 2
    assert "kitchen things" in words.categories()
    assert "kitchen things" not in words.categories("validation")
    actual = best(words, "a green kettle")
    assert (actual.id, actual.category, actual.split) == (ids[1], "kitchen things", "train")
    assert actual.score == pytest.approx(1, abs=1e-3)
    words.remove(ids)
    assert len(words) == before
    assert "kitchen things" not in words.categories()
    assert best(words, "a green kettle").id not in ids


def test_adding_again_changes_nothing(words):
    ids = words.add(["a teapot", "a teapot"], "kitchen")
    assert ids[0] == ids[1]
    size = len(words)
    assert words.add(["a teapot"], "kitchen") == ids[:1]
    assert len(words) == size
    words.remove(ids)
    assert len(words) == size - 1


def test_additions_leave_the_scores_of_others(words):
    before = words.match("alpha one", k=3, category="alpha").candidates
    words.add(["quite another thing"] + [f"more of it {i}" for i in range(50)], "other")
    after = words.match("alpha one", k=3, category="alpha").candidates
    assert [c.id for c in before] == [c.id for c in after]
    np.testing.assert_allclose([c.score for c in before], [c.score for c in after], atol=1e-6)


def test_saved_changes_come_back(words, words_folder, reload):
    shipped_files = {p.name: p.read_bytes() for p in words_folder.iterdir()}
    gone = best(words, "beta two train").id
    words.add(["a purple teapot"], "kitchen", "validation")
    words.remove([gone])
    words.save()
    again = reload()
    assert len(again) == len(words)
    assert best(again, "a purple teapot", bank="validation").prompt == "a purple teapot"
    assert best(again, "beta two train").id != gone
    again.add(["beta two train"], "beta")  # a removed shipped prompt can come back
    again.remove([best(again, "a purple teapot", bank="validation").id])
    again.save()
    third = reload()
    assert best(third, "beta two train").id == gone
    assert "kitchen" not in third.categories()
    assert {p.name: p.read_bytes() for p in words_folder.iterdir()} == shipped_files
    assert len(third) == 96


def test_unsaved_changes_do_not(words, reload):
    words.add(["a purple teapot"], "kitchen")
    assert "kitchen" not in reload().categories()


def test_saving_needs_a_user_folder(words_folder):
    with pytest.raises(ValueError, match="user"):
        Bank.load(words_folder).save()


def test_another_process_is_not_overwritten(words, reload):
    other = reload()
    other.add(["theirs"], "kitchen")
    other.save()
    words.add(["mine"], "kitchen")
    with pytest.raises(RuntimeError, match="another process"):
        words.save()
    assert [e.prompt for e in reload().entries("kitchen")] == ["theirs"]


@pytest.mark.parametrize("replacements", [0, 1])
def test_a_crash_while_saving_leaves_the_old_bank(words, reload, monkeypatch, replacements):
    """The first replacement is of the vectors, the second of index.json."""
    words.add(["first"], "kitchen")
    words.save()
    words.add(["second"], "kitchen")
    done, replace = [], os.replace

    def failing(source, target):
        if len(done) == replacements:
            raise OSError("no space left")
        done.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="no space"):
        words.save()
    monkeypatch.undo()
    assert [e.prompt for e in reload().entries("kitchen")] == ["first"]
    words.save()
    assert [e.prompt for e in reload().entries("kitchen")] == ["first", "second"]
    assert len(list(words._folder.glob("*.npy"))) == 1


def _edit(folder, **changes):
    path = folder / store.INDEX
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _reworded(folder):
    path = folder / store.INDEX
    path.write_text(path.read_text().replace("alpha one train", "alpha uno train"))


def _flip(folder):
    path = next(folder.glob("*.npy"))
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def _shorten(folder):
    path = next(folder.glob("*.npy"))
    path.write_bytes(path.read_bytes()[:-64])


def _cut_json(folder):
    path = folder / store.INDEX
    path.write_text(path.read_text()[:-20])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_flip, "digest"),
        (_shorten, "digest"),
        (_cut_json, "not JSON"),
        (_reworded, "prompts are not those"),
        (lambda f: _edit(f, version=2), "version must be 1"),
        (lambda f: _edit(f, format="cake"), "not a prompt bank"),
        (lambda f: _edit(f, entries=[]), "must hold finite float16|not those"),
        (lambda f: _edit(f, entries=7), "damaged"),
        (lambda f: _edit(f, vectors="../../secret.npy"), "damaged: vectors"),
        (lambda f: _edit(f, vectors=3), "damaged"),
        (lambda f: _edit(f, dimension=31), "must hold finite float16"),
        (lambda f: (f / store.INDEX).write_text("[]"), "not a prompt bank"),
    ],
)
def test_damage_is_named(words_folder, harm, message):
    harm(words_folder)
    with pytest.raises(ValueError, match=message):
        Bank.load(words_folder)


def test_missing_files_are_named(words_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"index\.json"):
        Bank.load(tmp_path / "nowhere")
    next(words_folder.glob("*.npy")).unlink()
    with pytest.raises(FileNotFoundError, match="npy"):
        Bank.load(words_folder)


def test_a_users_bank_of_another_encoder_is_refused(words):
    words.add(["a teapot"], "kitchen")
    words.save()
    with pytest.raises(ValueError, match=r"user: .* encoder 'words'"):
        Bank.load(user=words._folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": "a teapot"}, "prompts must be a list"),
        ({"prompts": []}, "prompts must be a list"),
        ({"prompts": ["ok", " "]}, r"prompts\[1\] must be"),
        ({"prompts": ["x" * 4001]}, r"prompts\[0\] must be"),
        ({"category": ""}, "category must be"),
        ({"category": "a\nb"}, "category must"),
        ({"split": "test"}, "split must be"),
        ({"vectors": np.zeros((1, 5))}, "vectors must be"),
        ({"vectors": np.full((1, 32), np.nan)}, "vectors must be"),
    ],
)
def test_bad_additions_are_named(words, arguments, message):
    with pytest.raises(ValueError, match=message):
        words.add(**({"prompts": ["a teapot"], "category": "kitchen"} | arguments))
    assert len(words) == 96


def test_unknown_ids_remove_nothing(words):
    known = words.entries()[0].id
    with pytest.raises(ValueError, match="ids must be in the bank"):
        words.remove([known, "123"])
    assert len(words) == 96


def test_a_bank_becomes_a_large_one(words_folder):
    """Past flat_limit a split turns to inverted lists: same answers, and it still shrinks."""
    from tests.bank.conftest import WordEncoder

    bank = Bank.load(words_folder, encoder=WordEncoder(), flat_limit=1000)
    prompts = [f"thing number {i} of {i % 50}" for i in range(3000)]
    ids = bank.add(prompts, "things")
    assert bank._indexes["train"].cells > 0
    assert bank._indexes["validation"].cells == 0
    hits = sum(best(bank, prompts[i]).id == ids[i] for i in range(0, 3000, 30))
    assert hits >= 95
    assert best(bank, prompts[5], category="alpha").category == "alpha"
    bank.remove(ids[:500])
    assert best(bank, prompts[5]).id not in ids[:500]
    assert len(bank.match("thing", k=10, diversity=0.5).candidates) == 10


@pytest.fixture(scope="module")
def clustered():
    source = ClusteredVectors(0)
    return source.draw(20_000), source.draw(200)


def test_inverted_lists_find_what_exhaustive_search_finds(clustered):
    vectors, queries = clustered
    index = VectorIndex(DIMENSION, flat_limit=5_000)
    ids = np.arange(20_000, dtype=np.int64) * 3 + 1
    index.add(ids[:4_000], vectors[:4_000])
    assert index.cells == 0
    index.add(ids[4_000:], vectors[4_000:])
    assert index.cells == 512
    truth = ids[np.argsort(-(queries @ vectors.T), axis=1)[:, :5]]
    start = time.perf_counter()
    actual = [index.search(query, 5)[1] for query in queries]
    assert (time.perf_counter() - start) / len(queries) < 0.05
    recall = np.mean([len(np.intersect1d(a, b)) / 5 for a, b in zip(truth, actual, strict=True)])
    assert recall >= 0.95
    assert index.recall(queries, 5) == pytest.approx(recall, abs=0.01)


def test_inverted_lists_add_and_remove(clustered):
    vectors, _ = clustered
    index = VectorIndex(DIMENSION, flat_limit=1_000)
    ids = np.arange(2_000, dtype=np.int64)
    index.add(ids, vectors[:2_000])
    index.remove(ids[:700])
    assert len(index) == 1_300
    assert not np.isin(index.search(vectors[3], 50)[1], ids[:700]).any()
    index.add(ids[:1], vectors[3:4])
    scores, actual = index.search(vectors[3], 1)
    assert (actual[0], scores[0]) == (0, pytest.approx(1, abs=1e-2))
    np.testing.assert_allclose(index.vectors(ids[800:803]), vectors[800:803], atol=1e-3)
    index.add(ids[1:700], vectors[1:700])
    index.add(ids + 2_000, vectors[2_000:4_000])
    index.add(ids + 4_000, vectors[4_000:6_000])  # outgrows its cells: retrained and refilled
    assert len(index) == 6_000
    assert index.search(vectors[1_500], 1)[1] == [1_500]


def test_synthetic_vectors_are_clustered_as_the_prompts_are(clustered):
    """Neighbours about as near, and of about as many dimensions, as the bank's own vectors."""

    def centred(vectors):
        vectors = vectors - vectors.mean(axis=0)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def nearest(vectors):
        return np.sort(vectors @ vectors.T, axis=1)[:, -6:-1].mean()

    bank = centred(store.read(builder.SHIPPED).vectors.astype(np.float32))
    synthetic = centred(clustered[0][: len(bank)])
    assert nearest(synthetic) == pytest.approx(nearest(bank), abs=0.05)
    assert 0.75 < effective_dimension(synthetic) / effective_dimension(bank) < 1.33
