"""The attributes of a `dg2_scenes` picture, visible in it and named in its captions.

A `Scene` is everything that the renderer gets by name; the rest of a picture (ridge shapes, cloud
positions, palette jitter) follows from its seed. The combinations in `is_held_out` never occur in
the train, validation and test splits. They form the `heldout` split, which tests whether a model
has learnt the attributes or memorised the combinations.
"""

from typing import NamedTuple

SUBJECTS = (
    "mountain", "volcano", "river", "lake", "waterfall", "desert", "glacier", "forest",
    "bamboo_grove", "savannah", "meadow", "canyon", "sea_cliff", "aurora", "island", "hills",
)  # fmt: skip
TIMES = ("dawn", "day", "sunset", "dusk", "night")
WEATHERS = ("clear", "cloudy", "foggy", "rain", "snow")
SEASONS = ("spring", "summer", "autumn", "winter")


class Scene(NamedTuple):
    """What a picture shows; each field is a member of the tuple of that name above."""

    subject: str
    time: str
    weather: str
    season: str


def is_possible(scene: Scene) -> bool:
    """Whether the world of the pictures admits a scene (an aurora needs a clear, dark sky)."""
    if scene.subject == "aurora":
        return scene.time in ("night", "dusk") and scene.weather in ("clear", "cloudy", "snow")
    return not (scene.weather == "snow" and scene.season == "summer")


def is_held_out(scene: Scene) -> bool:
    """Whether a combination is kept for the `heldout` split: one in twelve of those possible."""
    if scene.subject == "aurora":
        return (scene.time, scene.weather) == ("dusk", "snow")
    s, t, w = SUBJECTS.index(scene.subject), TIMES.index(scene.time), WEATHERS.index(scene.weather)
    return (5 * s + 7 * t + 3 * w) % 12 == 0
