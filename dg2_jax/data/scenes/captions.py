"""English captions for scenes: a small grammar over synonym tables.

Every picture gets several captions of different length and shape, so that a model trained on them
understands a bare "volcano, night" as well as a full sentence. One of them is long: it names every
attribute and the composition.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from dg2_jax.data.scenes import vocabulary
from dg2_jax.data.scenes.attributes import Scene
from dg2_jax.data.scenes.sampling import is_mirrored
from dg2_jax.data.scenes.vocabulary import Words

# How often a caption names an attribute, beyond the two of each picture that name them all.
_NAME_TIME = 0.75
_NAME_WEATHER = 0.65
_NAME_CLEAR = 0.3  # fair weather is expected when nothing is said
_NAME_SEASON = 0.35
_FULL_CAPTIONS = 2


class Caption(NamedTuple):
    """A caption and what it says.

    Attributes:
      text: the caption.
      names: the attributes of the scene that it names, always including "subject".
    """

    text: str
    names: frozenset[str]


def captions(scene: Scene, seed: int, n: int = 5) -> tuple[Caption, ...]:
    """Writes different captions of one picture; a function of its arguments alone.

    Each names the subject, most name the time of day and the weather, and some name the season if
    it is visible; at least two (if n >= 2) name subject, time and weather together. One of those is
    long: it also names a visible season and describes the composition.

    Args:
      scene: what the picture shows.
      seed: the picture's own seed.
      n: how many captions, at least 1.

    Returns:
      n different captions.

    Raises:
      ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1; got {n}")
    rng = random.Random(f"captions {seed} {'/'.join(scene)}")
    long = _long(rng, scene, seed)
    by_text = {long.text: long}
    while len(by_text) < n:
        caption = _caption(rng, scene, full=len(by_text) < _FULL_CAPTIONS)
        by_text.setdefault(caption.text, caption)
    shuffled = list(by_text.values())
    rng.shuffle(shuffled)
    return tuple(shuffled)


def _caption(rng: random.Random, scene: Scene, full: bool) -> Caption:
    named = {}  # in the order in which adjectives stand before a noun
    if full or rng.random() < (_NAME_CLEAR if scene.weather == "clear" else _NAME_WEATHER):
        named["weather"] = vocabulary.WEATHER[scene.weather]
    if full or rng.random() < _NAME_TIME:
        named["time"] = vocabulary.time_words(scene)
    if vocabulary.season_shows(scene) and rng.random() < _NAME_SEASON:
        named["season"] = vocabulary.SEASON[scene.season]
    shapes, weights = zip(*_SHAPES, strict=True)
    shape = rng.choices(shapes, weights)[0]
    return Caption(_in_the_sky(scene, shape(rng, scene, named)), frozenset({"subject", *named}))


def _long(rng: random.Random, scene: Scene, seed: int) -> Caption:
    """E.g. "A misty lake at dawn in spring, rocks mirrored in the water, lit from the left."."""
    named = {
        "weather": vocabulary.WEATHER[scene.weather],
        "time": vocabulary.time_words(scene),
    }
    if vocabulary.season_shows(scene):
        named["season"] = vocabulary.SEASON[scene.season]
    shape = rng.choice((_phrase, _phrase, _painterly, _opening, _statement))
    first = _in_the_sky(scene, shape(rng, scene, named)).removesuffix(".")
    parts = [*vocabulary.composition(scene), *_light(scene, seed)]
    text = f"{first}{rng.choice((', ', '; '))}{', '.join(parts)}"
    return Caption(_sentence(text), frozenset({"subject", *named}))


def _light(scene: Scene, seed: int) -> list[str]:
    """Where the light comes from, if that is visible."""
    if scene.time == "dusk" or scene.weather == "rain" or scene.subject == "aurora":
        return []
    side = "right" if is_mirrored(seed) else "left"
    disc = {"day": "the sun", "night": "the moon"}.get(scene.time)
    if disc is None or scene.subject == "bamboo_grove":
        return [f"lit from the {side}"]
    return [f"{disc} on the {side}"]


def _in_the_sky(scene: Scene, text: str) -> str:
    """Other subjects lie under the sky; an aurora is in it."""
    if scene.subject != "aurora":
        return text
    return text.replace("under a", "in a").replace("beneath a", "in a")


# The shapes: each writes the subject and all named attributes.


def _phrase(rng: random.Random, scene: Scene, named: dict[str, Words], article=True) -> str:
    """E.g. "a misty lake at dawn"."""
    before, after = _place(rng, named)
    return " ".join([_noun_phrase(rng, scene, before, article), *after])


def _bare(rng: random.Random, scene: Scene, named: dict[str, Words]) -> str:
    """E.g. "misty lake at dawn"."""
    return _phrase(rng, scene, named, article=False)


def _tags(rng: random.Random, scene: Scene, named: dict[str, Words]) -> str:
    """E.g. "misty lake, dawn", "dusk, snow, forest"."""
    first = [w for w in named.values() if w.before and rng.random() < 0.25][:1]
    noun = _noun_phrase(rng, scene, [_pick(rng, w.before) for w in first], article=False)
    tags = [_pick(rng, w.tags) for w in named.values() if w not in first]
    rng.shuffle(tags)
    tags.insert(0 if rng.random() < 0.7 else rng.randrange(len(tags) + 1), noun)
    return ", ".join(tags)


def _opening(rng: random.Random, scene: Scene, named: dict[str, Words]) -> str:
    """E.g. "at dawn, a misty lake"."""
    if not named:
        return _phrase(rng, scene, named)
    first, rest = _split(rng, named)
    text = f"{_pick(rng, first.after)}, {_phrase(rng, scene, rest)}"
    return _sentence(text) if rng.random() < 0.5 else text


def _statement(rng: random.Random, scene: Scene, named: dict[str, Words]) -> str:
    """E.g. "A misty lake lies still at dawn.", "At dawn, a lake lies still in the mist."."""
    before, after = _place(rng, named)
    opening = f"{after.pop()}, " if after and rng.random() < 0.35 else ""
    subject = _noun_phrase(rng, scene, before, neutral=False)
    verb, *rest = _pick(rng, vocabulary.VERBS[scene.subject]).split(" ")
    verb = verb if _is_plural(subject) else _third_person(verb)
    return _sentence(opening + " ".join([subject, verb, *rest, *after]))


def _event(rng: random.Random, scene: Scene, named: dict[str, Words]) -> str:
    """E.g. "Fog drifts over a lake at dawn."."""
    tellable = {k: w for k, w in named.items() if w.clauses}
    if not tellable:
        return _statement(rng, scene, named)
    told = rng.choice(list(tellable))
    rest = {k: w for k, w in named.items() if k != told}
    before, after = _place(rng, rest)
    noun = _noun_phrase(rng, scene, before, nouns=vocabulary.land_nouns(scene))
    return _sentence(" ".join([_pick(rng, named[told].clauses), noun, *after]))


def _time_over(rng: random.Random, scene: Scene, named: dict[str, Words]) -> str:
    """E.g. "misty dawn over a lake", "sunset over a volcano in winter"."""
    if "time" not in named:
        return _phrase(rng, scene, named)
    rest = {k: w for k, w in named.items() if k != "time"}
    first = []
    if "weather" in rest and rest["weather"].before and rng.random() < 0.5:
        first = [_pick(rng, rest.pop("weather").moods)]
    time = " ".join([*first, _pick(rng, vocabulary.TIME_NOUNS[scene.time])])
    if first and rng.random() < 0.5:
        time = _with_article(time)
    before, after = _place(rng, rest)
    noun = _noun_phrase(rng, scene, before, nouns=vocabulary.land_nouns(scene))
    return " ".join([time, "over", noun, *after])


def _painterly(rng: random.Random, scene: Scene, named: dict[str, Words]) -> str:
    """E.g. "an illustration of a misty lake at dawn"."""
    text = f"{_pick(rng, vocabulary.PICTURES)} {_phrase(rng, scene, named)}"
    return _sentence(text) if rng.random() < 0.2 else text


_Shape = Callable[[random.Random, Scene, dict[str, Words]], str]
_SHAPES: tuple[tuple[_Shape, float], ...] = (
    (_phrase, 0.26),
    (_bare, 0.12),
    (_tags, 0.16),
    (_opening, 0.1),
    (_statement, 0.12),
    (_event, 0.08),
    (_time_over, 0.06),
    (_painterly, 0.1),
)


# Their parts.


def _place(rng: random.Random, named: dict[str, Words]) -> tuple[list[str], list[str]]:
    """Says each attribute once: before the noun (at most two of them) or after it."""
    before: list[str] = []
    after: list[str] = []
    for words in named.values():
        if words.before and len(before) < 2 and rng.random() < 0.4:
            before.append(_pick(rng, words.before))
        else:
            after.append(_pick(rng, words.after))
    rng.shuffle(after)
    return before, after


def _noun_phrase(
    rng: random.Random,
    scene: Scene,
    before: list[str],
    article: bool = True,
    neutral: bool = True,
    nouns: tuple[str, ...] = (),
) -> str:
    noun = _pick(rng, nouns or vocabulary.nouns(scene))
    if neutral and article and rng.random() < 0.15:
        before = [rng.choice(vocabulary.NEUTRAL), *before]
    definite = noun.startswith("the ")
    phrase = " ".join([*before, noun.removeprefix("the ")])
    if not article:
        return phrase
    return f"the {phrase}" if definite else _with_article(phrase)


def _split(rng: random.Random, named: dict[str, Words]) -> tuple[Words, dict[str, Words]]:
    first = rng.choice(list(named))
    return named[first], {k: w for k, w in named.items() if k != first}


def _pick(rng: random.Random, words: tuple[str, ...]) -> str:
    """The first word is the one that people type most."""
    return words[0] if rng.random() < 0.2 else rng.choice(words)


def _is_plural(phrase: str) -> bool:
    head = phrase
    for preposition in (" of ", " by ", " in ", " with ", " above ", " under "):
        head = head.partition(preposition)[0]
    return head.endswith("s") and not head.endswith("is")  # one aurora borealis


def _with_article(phrase: str) -> str:
    if _is_plural(phrase):
        return phrase
    return f"{'an' if phrase[0] in 'aeiouAEIOU' else 'a'} {phrase}"


def _third_person(verb: str) -> str:
    return verb + ("es" if verb.endswith(("s", "sh", "ch", "x")) else "s")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
