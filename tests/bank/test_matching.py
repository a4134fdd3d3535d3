"""Matching: the right category, and what temperature, diversity and the seed do."""

import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dg2_jax.bank import Bank
from dg2_jax.bank.matching import diversify, effective_choices, probabilities
from tests.bank import paraphrases

SPLITS = {"train": paraphrases.TRAIN, "validation": paraphrases.VALIDATION}
SCORES = st.lists(st.floats(-1, 1), min_size=2, max_size=12)


@pytest.mark.parametrize("split", SPLITS)
def test_paraphrases_find_their_category(shipped, split):
    cases = SPLITS[split]
    assert len(cases) >= 60
    assert {category for category, _ in cases} == set(shipped.categories(split))
    texts = {entry.prompt for entry in shipped.entries(split=split)}
    missed = []
    for category, wording in cases:
        assert wording not in texts
        actual = {c.category for c in shipped.match(wording, k=5, bank=split).candidates}
        if category not in actual:
            missed.append(wording)
    assert len(missed) <= 0.05 * len(cases), missed


@pytest.mark.parametrize("split", SPLITS)
def test_volcano_matches_volcano(shipped, split):
    match = shipped.match("volcano", k=5, bank=split)
    assert {c.category for c in match.candidates} == {"volcano"}
    assert {c.split for c in match.candidates} == {split}
    assert match.chosen in match.candidates
    assert match.prompt == match.chosen.prompt


def test_min_similarity_keeps_the_users_prompt(shipped):
    high = shipped.match("a volcano at night", min_similarity=1.0)
    assert (high.prompt, high.chosen) == ("a volcano at night", None)
    assert len(high.candidates) == 5
    low = shipped.match("quarterly tax return spreadsheet", min_similarity=-1.0)
    assert low.chosen is not None


def test_default_min_similarity_separates(shipped):
    """Most paraphrases are replaced, most prompts about something else are kept."""
    about = [shipped.match(p).chosen is not None for _, p in paraphrases.TRAIN]
    other = [shipped.match(p).chosen is not None for p in paraphrases.ELSEWHERE]
    assert np.mean(about) >= 0.9
    assert np.mean(other) <= 0.5


def test_scores_are_centred_cosines(shipped, encoder):
    """Against the definition, on the raw vectors."""
    from dg2_jax.bank import builder, store

    stored = store.read(builder.SHIPPED)
    raw = stored.vectors.astype(np.float64)
    train = np.array([entry.split == "train" for entry in stored.entries])
    centre = raw[train].mean(axis=0)
    query = np.asarray(encoder.encode(["fire mountain"]).pooled)[0] - centre
    cosine = (raw[train] - centre) @ query
    cosine /= np.linalg.norm(raw[train] - centre, axis=1) * np.linalg.norm(query)
    got = [c.score for c in shipped.match("fire mountain", k=7).candidates]
    np.testing.assert_allclose(got, np.sort(cosine)[::-1][:7], atol=1e-4)


def test_probabilities_closed_form():
    """Two scores always have z-scores of 1 and -1: p is a logistic function of 2 / T."""
    for temperature in (0.25, 1.0, 3.0):
        p = probabilities(np.array([0.77, 0.76]), temperature)
        assert p[0] == pytest.approx(1 / (1 + np.exp(-2 / temperature)))


def test_temperature_limits(shipped):
    cold, warm, hot = (
        shipped.match("a snowy summit", k=5, temperature=t, seed=0)
        for t in (0.0, 1.0, float("inf"))
    )
    assert cold.effective_choices == 1
    assert cold.chosen == cold.candidates[0]
    assert 1 < warm.effective_choices < 5
    assert hot.effective_choices == pytest.approx(5)
    nearly = [shipped.match("a snowy summit", temperature=t).effective_choices for t in (1e-9, 1e9)]
    assert nearly == pytest.approx([1, 5])


@settings(max_examples=200, deadline=None)
@given(SCORES, st.floats(0.01, 50), st.floats(1.01, 10))
def test_effective_choices_grow_with_temperature(scores, temperature, factor):
    scores = np.array(scores)
    few = effective_choices(probabilities(scores, temperature))
    more = effective_choices(probabilities(scores, temperature * factor))
    assert 1 - 1e-9 <= few <= more + 1e-9
    assert more <= len(scores) + 1e-9


@settings(max_examples=100, deadline=None)
@given(SCORES, st.floats(0, 50))
def test_probabilities_are_a_distribution_in_score_order(scores, temperature):
    p = probabilities(np.array(scores), temperature)
    assert p.sum() == pytest.approx(1)
    order = np.argsort(scores)
    assert np.all(np.diff(p[order])[np.diff(np.array(scores)[order]) > 0] >= -1e-12)


def test_equal_scores_are_equally_likely():
    np.testing.assert_allclose(probabilities(np.full(4, 0.3), 0.01), 0.25)


def test_draws_follow_the_probabilities(words):
    match = words.match("alpha one two", k=4, temperature=2.0, min_similarity=-1)
    draws = Counter(
        words.match("alpha one two", k=4, temperature=2.0, min_similarity=-1, seed=s).prompt
        for s in range(2000)
    )
    for candidate in match.candidates:
        spread = np.sqrt(candidate.probability / 2000)
        assert draws[candidate.prompt] / 2000 == pytest.approx(
            candidate.probability, abs=4 * spread
        )


def test_a_seed_decides(shipped):
    runs = [shipped.match("dunes", k=20, temperature=5, seed=11) for _ in range(2)]
    assert runs[0] == runs[1]
    free = shipped.match("dunes", k=20, temperature=5)
    assert shipped.match("dunes", k=20, temperature=5, seed=free.seed) == free
    others = {shipped.match("dunes", k=20, temperature=5, seed=s).prompt for s in range(30)}
    assert len(others) > 5
    drawn = {shipped.random_prompt(seed=s) for s in range(20)}
    assert len(drawn) > 15
    assert shipped.random_prompt(seed=3) == shipped.random_prompt(seed=3)


def test_category_filter(shipped):
    match = shipped.match("a volcano at night", category="mermaid", k=6, min_similarity=-1)
    assert [c.category for c in match.candidates] == ["mermaid"] * 6
    assert shipped.match("x", category="bamboo_forest").candidates[0].category == "bamboo forest"
    elves = {entry.prompt for entry in shipped.entries("elf", "validation")}
    assert {shipped.random_prompt("elf", "validation", seed=s) for s in range(20)} <= elves


def test_diversify_by_hand():
    """Two near-equal candidates and one apart: a weight of one half prefers the one apart."""
    vectors = np.array([[1, 0], [0.995, 0.0999], [0, 1]])
    scores = np.array([0.9, 0.89, 0.5])
    assert diversify(scores, vectors, 2, 0.0) == [0, 1]
    assert diversify(scores, vectors, 2, 0.5) == [0, 2]
    assert diversify(scores, vectors, 9, 0.5) == [0, 2, 1]


def test_diversity_spreads_the_candidates(shipped, encoder):
    def likeness(diversity):
        match = shipped.match("mountains", k=6, diversity=diversity)
        vectors = np.asarray(encoder.encode([c.prompt for c in match.candidates]).pooled)
        assert len({c.id for c in match.candidates}) == 6
        return (vectors @ vectors.T)[np.triu_indices(6, 1)].mean()

    assert likeness(0.7) < likeness(0.0) - 0.05
    plain = shipped.match("mountains", k=6)
    assert shipped.match("mountains", k=6, diversity=0.7).candidates[0].id == plain.candidates[0].id


def test_k_beyond_the_bank(words):
    assert len(words.match("alpha", k=1000).candidates) == 48
    assert len(words.match("alpha", k=1000, category="beta", diversity=0.3).candidates) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ""}, "prompt must be"),
        ({"prompt": None}, "prompt must be"),
        ({"k": 0}, "k must be in 1..1000"),
        ({"k": 2.5}, "k must be a whole number"),
        ({"k": True}, "k must be a whole number"),
        ({"temperature": -0.1}, "temperature must be"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"temperature": "hot"}, "temperature must be"),
        ({"bank": "test"}, "bank must be one of train, validation"),
        ({"category": "pasta"}, "category must be one of aurora"),
        ({"category": 3}, "category must be a name"),
        ({"diversity": 1.5}, "diversity must be"),
        ({"min_similarity": 2}, "min_similarity must be"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_bad_arguments_are_named(shipped, arguments, message):
    with pytest.raises(ValueError, match=message):
        shipped.match(**({"prompt": "a lake"} | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"category": "pasta"}, "category must be"),
        ({"split": "test"}, "split must be"),
        ({"seed": 1.5}, "seed must be"),
    ],
)
def test_bad_random_prompt_arguments_are_named(shipped, arguments, message):
    with pytest.raises(ValueError, match=message):
        shipped.random_prompt(**arguments)


def test_wrong_encoder_is_refused(words_folder, encoder):
    with pytest.raises(ValueError, match="encoder must be 'words'"):
        Bank.load(words_folder, encoder=encoder)


def test_threads_share_a_bank(words):
    """Searches while others add and remove: no error, and the bank is as before afterwards."""
    before, errors = len(words), []

    def work(number):
        try:
            for i in range(20):
                # One word apiece: the encoder does not see word order, so that "thread 1 prompt 2"
                # would equal "thread 2 prompt 1" of another thread.
                ids = words.add([f"thread{number} prompt{i}"], "threads")
                match = words.match(f"thread{number} prompt{i}", min_similarity=-1, temperature=0)
                assert match.chosen.id == ids[0]
                words.random_prompt()
                words.remove(ids)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(words) == before
