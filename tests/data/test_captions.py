"""Captions and the drawing of scenes: what is said is true, varied and correct English."""

import re
from collections import Counter

import pytest

from dg2_jax.data.scenes import attributes, vocabulary
from dg2_jax.data.scenes.attributes import Scene
from dg2_jax.data.scenes.captions import captions
from dg2_jax.data.scenes.render import render
from dg2_jax.data.scenes.sampling import draw_scene, picture_seed

SCENES = [draw_scene(i, "train") for i in range(1200)]
WRITTEN = [captions(scene, picture_seed(i, "train")) for i, scene in enumerate(SCENES)]
CAPTIONS = [tuple(text for text, _ in found) for found in WRITTEN]


def synonyms(attribute: str) -> dict[str, set[str]]:
    """Every way to say each value of an attribute."""
    if attribute == "subject":
        return {k: {n.removeprefix("the ") for n in v} for k, v in vocabulary.NOUNS.items()}
    if attribute == "time":
        scenes = {t: Scene("lake", t, "clear", "summer") for t in attributes.TIMES}
        return {
            t: set(sum(vocabulary.time_words(s), ())) | set(vocabulary.TIME_NOUNS[t])
            for t, s in scenes.items()
        }
    table = {"weather": vocabulary.WEATHER, "season": vocabulary.SEASON}[attribute]
    return {value: set(sum(words, ())) for value, words in table.items()}


def reader(attribute: str):
    """A function from a caption to the set of values of an attribute that it names."""
    value_of = {word: value for value, words in synonyms(attribute).items() for word in words}
    longest_first = sorted(map(re.escape, value_of), key=len, reverse=True)
    pattern = re.compile(rf"\b({'|'.join(longest_first)})\b", re.IGNORECASE)
    lower = {word.lower(): value for word, value in value_of.items()}
    return lambda text: {lower[word.lower()] for word in pattern.findall(text)}


@pytest.mark.parametrize("attribute", Scene._fields)
def test_no_synonym_is_shared_between_values(attribute):
    count = Counter(word for words in synonyms(attribute).values() for word in words)
    assert [word for word, n in count.items() if n > 1] == []
    values = getattr(attributes, {"weather": "WEATHERS"}.get(attribute, attribute.upper() + "S"))
    assert set(synonyms(attribute)) == set(values)


@pytest.mark.parametrize("attribute", Scene._fields)
def test_captions_name_no_other_value(attribute):
    read = reader(attribute)
    for scene, texts in zip(SCENES, CAPTIONS, strict=True):
        for text in texts:
            assert read(text) <= {getattr(scene, attribute)}, (scene, text)


@pytest.mark.parametrize("attribute", Scene._fields)
def test_names_are_what_a_reader_finds(attribute):
    read = reader(attribute)
    for actual in WRITTEN:
        for text, names in actual:
            assert bool(read(text)) == (attribute in names), (text, names)


def test_every_caption_names_the_subject():
    read = reader("subject")
    assert all(read(text) for texts in CAPTIONS for text in texts)


def test_how_often_captions_name_each_attribute():
    texts = [text for group in CAPTIONS for text in group]
    share = {a: sum(map(bool, map(reader(a), texts))) / len(texts) for a in Scene._fields}
    assert share["time"] == pytest.approx(0.85, abs=0.04)
    assert share["weather"] == pytest.approx(0.75, abs=0.05)
    visible = [
        text
        for scene, group in zip(SCENES, CAPTIONS, strict=True)
        if vocabulary.season_shows(scene)
        for text in group
    ]
    read = reader("season")
    assert sum(bool(read(t)) for t in visible) / len(visible) == pytest.approx(
        0.48, abs=0.04
    )  # the long one always


def test_two_captions_of_each_picture_name_subject_time_and_weather():
    time, weather = reader("time"), reader("weather")
    for texts in CAPTIONS:
        assert sum(bool(time(t) and weather(t)) for t in texts) >= 2, texts


def test_one_caption_of_five_is_long_and_names_all_that_can_be_seen():
    for scene, actual in zip(SCENES, WRITTEN, strict=True):
        parts = vocabulary.composition(scene)
        long = [caption for caption in actual if all(part in caption.text for part in parts)]
        assert len(long) == 1, actual
        seen = set(Scene._fields) if vocabulary.season_shows(scene) else set(Scene._fields[:3])
        assert long[0].names == seen


def test_the_side_of_the_light_is_that_of_the_picture():
    """A clear day's sun is the brightest spot of the upper sky."""
    sides = set()
    for seed in range(12):
        scene = Scene("desert", "day", "clear", "summer")
        sky = render(scene, seed, 64)[:20].astype(int).sum(-1)
        brighter = "left" if sky[:, :32].max() > sky[:, 32:].max() else "right"
        sides.add(brighter)
        assert any(f"the sun on the {brighter}" in c.text for c in captions(scene, seed))
    assert sides == {"left", "right"}


def test_season_is_named_only_where_it_shows():
    read = reader("season")
    for scene, texts in zip(SCENES, CAPTIONS, strict=True):
        assert vocabulary.season_shows(scene) or not any(map(read, texts)), (scene, texts)


def test_articles_spacing_and_sentences():
    for text in (text for texts in CAPTIONS for text in texts):
        assert not re.search(r"\b[Aa] [aeiouAEIOU]|\b[Aa]n [^aeiouAEIOU]", text), text
        assert not re.search(r"\b[Aa]n? (the|a|an)\b", text), text
        assert not re.search(r"\b[Aa]n? (\w+ )?(cliffs|hills|woods|dunes|waterfalls)\b", text), text
        assert "  " not in text
        assert " ," not in text
        assert text[0].isupper() == text.endswith(".") or text.startswith("African"), text


def test_verbs_agree_with_their_subjects():
    texts = " ".join(text for group in CAPTIONS for text in group)
    singular = r"(mountain|volcano|river|lake|waterfall|desert|glacier|island|meadow|canyon)"
    plural = r"(mountains|waterfalls|sand dunes|woods|sea cliffs|northern lights|hills)"
    assert not re.search(rf"[Aa]n? (\w+ )?{singular} (rise|lie|stretch|stand|spread|flow)\b", texts)
    assert re.search(rf"\b{singular} (rises|lies|stretches|stands)\b", texts)
    wrong = "(rises|plunges|stretches|stands|glows|rolls)"
    assert not re.search(rf"(?<!of )(?<!under the ){plural} {wrong}\b", texts)
    assert re.search(rf"{plural} (rise|plunge|stretch|stand|glow|roll)\b", texts, re.IGNORECASE)


def test_captions_of_one_picture_differ_and_depend_on_the_seed_alone():
    for i, texts in enumerate(WRITTEN[:200]):
        assert len(set(texts)) == 5
        assert texts == captions(SCENES[i], picture_seed(i, "train"))
    assert captions(SCENES[0], 1) != captions(SCENES[0], 2)
    assert len(captions(SCENES[0], 0, n=12)) == 12
    with pytest.raises(ValueError, match="n must be"):
        captions(SCENES[0], 0, n=0)


def test_grammar_has_more_than_a_hundred_thousand_captions():
    count = Counter(text for texts in CAPTIONS for text in texts)
    once, twice = (sum(n == k for n in count.values()) for k in (1, 2))
    # Chao's (1984) lower bound of the number of kinds, from those seen once and twice.
    assert len(count) + once**2 / (2 * twice) > 100_000


def test_short_and_long_captions_both_occur():
    lengths = [len(text.split()) for texts in CAPTIONS for text in texts]
    assert sum(n <= 4 for n in lengths) / len(lengths) > 0.15
    assert sum(n >= 9 for n in lengths) / len(lengths) > 0.15
