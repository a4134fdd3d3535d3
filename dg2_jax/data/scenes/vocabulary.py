"""The words of the captions: what people call each attribute value, the most common first."""

from typing import NamedTuple

from dg2_jax.data.scenes.attributes import Scene


class Words(NamedTuple):
    """The ways to say one value of an attribute."""

    before: tuple[str, ...]  # before a noun: "misty"
    after: tuple[str, ...]  # after a noun, or opening a sentence: "in the fog"
    tags: tuple[str, ...]  # alone between commas: "fog"
    clauses: tuple[str, ...] = ()  # continued by a noun: "fog drifts over"
    moods: tuple[str, ...] = ()  # before a time of day, as in "a rainy night"


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


def _words(before: str, after: str, tags: str, clauses: str = "", moods: str = "") -> Words:
    return Words(*(_list(text) if text else () for text in (before, after, tags, clauses, moods)))


# Nouns come without article (but for "the"); their last word before a preposition is the head.
_NOUNS = {
    "mountain": "mountain, mountains, mountain peak, alpine summit, mountain range, peak, "
    "mountain ridge, rocky peak, rugged mountain, alpine peaks, mountain landscape, summit",
    "volcano": "volcano, volcanic cone, stratovolcano, volcanic crater, volcanic landscape, "
    "steep volcano, cone-shaped volcano, volcanic slope",
    "river": "river, winding river, stream, river valley, meandering river, river bend, "
    "broad river, river landscape, winding stream",
    "lake": "lake, lakeside, tarn, lakeshore, mirror-like lake, lake landscape, "
    "wide lake, lake shore",
    "waterfall": "waterfall, cascade, waterfalls, tall waterfall, cascading waterfall, "
    "plunging waterfall, cataract, waterfall landscape",
    "desert": "desert, sand dunes, desert dunes, sandy desert, desert landscape, sea of sand, "
    "dunes, field of dunes, sand desert",
    "glacier": "glacier, ice field, glacial valley, glacier tongue, glacier landscape, "
    "icy glacier, wall of ice, tongue of ice, glacial landscape",
    "forest": "forest, woods, woodland, dense forest, trees, stand of trees, deep forest, "
    "wooded landscape, forest landscape, thick woods",
    "bamboo_grove": "bamboo grove, bamboo forest, bamboo thicket, grove of bamboo, "
    "stand of bamboo, bamboo stalks, bamboo stems, thicket of bamboo",
    "savannah": "savannah, savanna, African savannah, acacia savannah, savannah grassland, "
    "grassland with acacias, African plain, savannah landscape, savanna plain",
    "meadow": "meadow, grassy meadow, flower meadow, pasture, open meadow, wildflower meadow, "
    "field of wildflowers, meadow landscape, field of flowers, field of grass",
    "canyon": "canyon, gorge, ravine, deep canyon, rocky gorge, canyon walls, "
    "canyon landscape, red rock canyon, narrow gorge",
    "sea_cliff": "sea cliff, sea cliffs, coastal cliffs, cliff by the sea, headland, cliffs, "
    "cliff above the ocean, rocky coast, rugged coastline, ocean cliffs, cliffs by the ocean",
    "aurora": "the northern lights, aurora, the aurora borealis, the polar lights, "
    "aurora in the sky, landscape under the northern lights, curtain of northern lights",
    "island": "island, small island, lone island, islet, rocky island, island in the sea, "
    "isle, island in the ocean, far-off island",
    "hills": "hills, rolling hills, hillside, gentle hills, grassy hills, hilly landscape, "
    "row of hills, soft hills",
}
NOUNS = {subject: _list(text) for subject, text in _NOUNS.items()}
_AURORA_LANDS = _list(
    "landscape under the northern lights, landscape under the aurora, "
    "horizon under the aurora borealis, land under the northern lights"
)

# Plural verbs with what follows them.
_VERBS = {
    "mountain": "rise into the sky, tower above the land, stand tall, stand in the distance, rise",
    "volcano": "rise into the sky, tower above the land, loom over the land, stand alone, rise",
    "river": "wind through the land, flow through the valley, run through the land, flow past",
    "lake": "lie still, stretch out, lie between the shores, reflect the sky, lie quietly",
    "waterfall": "plunge down the rocks, tumble down, pour over the rocks, crash down, fall",
    "desert": "stretch to the horizon, lie empty, spread out, roll on and on, stretch away",
    "glacier": "creep down the valley, stretch between the slopes, lie silent, flow slowly down",
    "forest": "stand silent, cover the land, stretch into the distance, grow tall, stand still",
    "bamboo_grove": "stand tall, sway gently, reach upwards, grow close together, stand silent",
    "savannah": "stretch to the horizon, lie wide open, spread out, stretch away, lie still",
    "meadow": "stretch to the horizon, lie open, spread out, lie peacefully, stretch away",
    "canyon": "cut through the rock, open up, plunge into the depths, wind through the rock",
    "sea_cliff": "rise above the waves, drop into the water, face the waves, tower over the surf",
    "aurora": "glow, shimmer, light up the sky, dance, shine",
    "island": "rise from the water, lie in the water, float on the horizon, stand among the waves",
    "hills": "roll into the distance, roll on and on, stretch to the horizon, rise gently",
}
VERBS = {subject: _list(text) for subject, text in _VERBS.items()}

# What every picture of a subject shows; no word here names another attribute.
_COMPOSITIONS = {
    "mountain": "a white crest, conifers at the foot",
    "volcano": "glowing lava on its sides, smoke above",
    "river": "conifers and round crowns on its banks",
    "lake": "rocks and conifers mirrored in the water",
    "waterfall": "white water between walls of rock, conifers on both sides",
    "desert": "sharp crests one behind another",
    "glacier": "cracked blue ice between dark slopes, still water in front",
    "forest": "tall trunks on both sides, pale ranks behind",
    "bamboo_grove": "thick stalks in front, thin ones behind, hanging leaves",
    "savannah": "flat-topped crowns, tall grass in front",
    "meadow": "a lone tree, low crowns in the distance",
    "canyon": "banded red walls on both sides, water at the bottom",
    "sea_cliff": "rock stacks in the water, white foam at the foot",
    "aurora": "green and violet curtains, white crests, still water below",
    "island": "palms on a beach, open water all around",
    "hills": "striped fields with hedges, a few round crowns",
}

_TIME = {
    "dawn": _words(
        "dawn-lit, early-morning",
        "at dawn, at sunrise, at daybreak, in the early morning, at first light, "
        "in the morning light, as the sun rises",
        "dawn, sunrise, daybreak, early morning, first light, morning light",
        "dawn breaks over, the sun rises over, the sun comes up over, morning light touches",
    ),
    "day": _words(
        "daytime",
        "by day, in daylight, during the day, at noon, at midday, in the daytime, "
        "in full daylight, in the middle of the day, in the afternoon, on a bright day",
        "day, daytime, daylight, midday, noon, afternoon, bright day",
        "daylight fills the sky over, bright daylight falls on, the day is bright over",
    ),
    "sunset": _words(
        "sunset, sunset-lit",
        "at sunset, in the evening, as the sun goes down, in the golden evening light, "
        "in the evening sun, as the sun sets, in the glow of the sunset, in the setting sun",
        "sunset, evening, setting sun, evening light, golden evening, sunset glow",
        "the sun sets over, the sun goes down over, the sunset glows over, a sunset colours",
    ),
    "dusk": _words(
        "dusky, twilit",
        "at dusk, at twilight, in the twilight, in the blue hour, after sundown, "
        "in the last light, in the fading light, in the gloaming",
        "dusk, twilight, blue hour, last light, after sundown, fading light",
        "dusk falls over, twilight settles over, dusk settles on, the light fades over",
    ),
    "night": _words(
        "night-time, nocturnal",
        "at night, after dark, at midnight, by night, in the dark, in the middle of the night, "
        "late at night, in the night",
        "night, midnight, nighttime, dark night, after dark, late night",
        "night lies over, darkness covers, the night is dark over, night has come to",
    ),
}
# What can be said of a time of day only under a clear sky.
_CLEAR_TIME = {
    "day": _words(
        "sunny, sunlit, sun-drenched",
        "in the sunshine, on a sunny day, in bright sunlight, under the midday sun",
        "sunny, sunny day, sunshine, bright sunlight",
        "the sun shines over, sunshine floods, sunlight pours over",
    ),
    "night": _words(
        "starlit, moonlit",
        "under the stars, by moonlight, in the moonlight, under a starry sky, in the starlight",
        "starry night, moonlight, stars, starry sky, moonlit night",
        "stars shine over, the moon shines over, stars twinkle above, moonlight falls on",
    ),
}
TIME_NOUNS = {
    "dawn": _list("dawn, sunrise, daybreak, early morning, morning light"),
    "day": _list("day, midday, daylight, afternoon"),
    "sunset": _list("sunset, evening, evening light, evening sun"),
    "dusk": _list("dusk, twilight, blue hour"),
    "night": _list("night, midnight"),
}

WEATHER = {
    "clear": _words(
        "",
        "under a clear sky, in clear weather, under a cloudless sky, with clear skies, "
        "in fine weather, in fair weather, beneath a cloudless sky",
        "clear sky, clear, cloudless, clear skies, fair weather, cloudless sky, fine weather",
        "a clear sky stretches over, a cloudless sky arches over, the sky is clear over",
    ),
    "cloudy": _words(
        "cloudy, overcast, cloud-covered",
        "under a cloudy sky, under an overcast sky, under grey clouds, beneath heavy clouds, "
        "in cloudy weather, in overcast weather, with clouds in the sky, under thick clouds",
        "cloudy, overcast, clouds, cloudy sky, grey clouds, overcast sky, heavy clouds",
        "clouds drift over, grey clouds hang over, clouds gather above, the sky is overcast over, "
        "heavy clouds cover the sky over",
        "cloudy, overcast, grey",
    ),
    "foggy": _words(
        "misty, foggy, hazy, fog-covered, mist-covered",
        "in the fog, in the mist, in the haze, in thick fog, wrapped in mist, shrouded in fog, "
        "in foggy weather, in a dense mist, behind a veil of mist",
        "fog, foggy, mist, misty, haze, hazy, thick fog",
        "fog drifts over, mist hangs over, thick fog covers, haze lies over, mist veils, "
        "it is foggy over",
        "misty, foggy, hazy",
    ),
    "rain": _words(
        "rainy, rain-soaked, drizzly, rain-swept",
        "in the rain, during a downpour, in pouring rain, in a drizzle, in rainy weather, "
        "in a rain shower, in heavy rain",
        "rain, rainy, drizzle, downpour, drizzling, raining, heavy rain",
        "rain falls over, it is raining over, a downpour sweeps over, drizzle falls on, "
        "it is drizzling over, rain pours down on",
        "rainy, drizzly, wet",
    ),
    "snow": _words(
        "snowy, snow-covered, snowbound, snow-swept",
        "in the snow, in a snowfall, in a blizzard, during a snowstorm, in falling snow, "
        "in snowy weather, in a flurry of snow, among falling snowflakes",
        "snow, snowfall, snowy, blizzard, snowing, snowstorm, falling snow",
        "snow falls over, it is snowing over, a blizzard sweeps over, snowflakes drift over, "
        "a snowstorm rages over, snow comes down on",
        "snowy, snow-filled",
    ),
}

SEASON = {
    "spring": _words(
        "spring, springtime",
        "in spring, in springtime, in early spring, in the spring",
        "spring, springtime, early spring",
        "spring has come to",
    ),
    "summer": _words(
        "summer, midsummer",
        "in summer, in midsummer, in high summer, in the summer",
        "summer, summertime, midsummer",
        "summer has come to",
    ),
    "autumn": _words(
        "autumn, autumnal",
        "in autumn, in the fall, in late autumn, among autumn colours",
        "autumn, fall colors, autumn colours",
        "autumn has come to, autumn colours",
    ),
    "winter": _words(
        "winter, wintry",
        "in winter, in midwinter, in deep winter, in the winter",
        "winter, midwinter, wintertime",
        "winter has come to, winter lies over",
    ),
}

NEUTRAL = _list(
    "quiet, lonely, vast, remote, peaceful, beautiful, distant, serene, silent, majestic"
)
PICTURES = _list(
    "an illustration of, a painting of, a picture of, a drawing of, a flat illustration of, "
    "a stylised picture of, a digital painting of, a landscape painting of, an image of, "
    "a view of, a scene with, artwork of, a poster of, a minimalist illustration of"
)

_BLOOMS = ("spring", "summer")
_EVERGREEN = ("volcano", "desert", "glacier", "bamboo_grove", "canyon", "aurora", "sea_cliff")


def nouns(scene: Scene) -> tuple[str, ...]:
    """What the subject may be called; flowers only in the seasons that have them."""
    names = NOUNS[scene.subject]
    if scene.season in _BLOOMS and scene.weather != "snow":
        return names
    return tuple(name for name in names if "flower" not in name)


def land_nouns(scene: Scene) -> tuple[str, ...]:
    """What weather or light can lie over: an aurora is in the sky itself, its landscape is not."""
    return _AURORA_LANDS if scene.subject == "aurora" else nouns(scene)


def composition(scene: Scene) -> tuple[str, ...]:
    """What a long caption says about the picture besides its attributes."""
    parts = _list(_COMPOSITIONS[scene.subject])
    if scene.subject == "meadow" and scene.season in _BLOOMS and scene.weather != "snow":
        return (*parts, "bright blossoms in the grass")
    return parts


def time_words(scene: Scene) -> Words:
    """The words for the time of day; stars and sunshine only when the sky is clear."""
    words = _TIME[scene.time]
    if scene.weather != "clear" or scene.time not in _CLEAR_TIME:
        return words
    return Words(*(a + b for a, b in zip(words, _CLEAR_TIME[scene.time], strict=True)))


def season_shows(scene: Scene) -> bool:
    """Whether a picture shows its season: where leaves or grass do, not under snow or at night."""
    return scene.subject not in _EVERGREEN and scene.weather != "snow" and scene.time != "night"
