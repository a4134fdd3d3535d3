"""Which scene and which seed belong to each picture of a `dg2_scenes` split."""

import functools
import random

from dg2_jax.data.scenes.attributes import (
    SEASONS,
    SUBJECTS,
    TIMES,
    WEATHERS,
    Scene,
    is_held_out,
    is_possible,
)

SPLITS = ("train", "validation", "test", "heldout")
MAX_SPLIT_SIZE = 10_000_000  # keeps the seed ranges of the splits apart

# Dusk and night are rarer for the other subjects because an aurora has no other time; so all five
# times are equally frequent over all subjects. Fair weather is more frequent because a short prompt
# ("a volcano at sunset") implies it.
_TIME_WEIGHTS = {"dawn": 0.32, "day": 0.32, "sunset": 0.32, "dusk": 0.27, "night": 0.27}
_WEATHER_WEIGHTS = {"clear": 0.28, "cloudy": 0.18, "foggy": 0.18, "rain": 0.18, "snow": 0.18}


def picture_seed(index: int, split: str, seed: int = 0) -> int:
    """The seed of one picture: no two pictures of any splits or data-set seeds share it.

    Args:
      index: position in the split, 0 to MAX_SPLIT_SIZE - 1.
      split: a member of SPLITS.
      seed: the data set's seed, at least 0.

    Returns:
      A non-negative integer; fits in int64 for seeds below 2e11.

    Raises:
      ValueError: an argument is outside its range.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")
    if not 0 <= index < MAX_SPLIT_SIZE:
        raise ValueError(f"index must be from 0 to {MAX_SPLIT_SIZE - 1}; got {index}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0; got {seed}")
    return (seed * len(SPLITS) + SPLITS.index(split)) * MAX_SPLIT_SIZE + index


def is_mirrored(seed: int) -> bool:
    """Whether the picture of a seed is turned left to right: the light then comes from the right.

    It is drawn independently of everything else the seed decides, so that captions can know it.
    """
    return random.Random(f"mirror {seed}").random() < 0.5


def draw_scene(index: int, split: str, seed: int = 0) -> Scene:
    """The scene of picture `index`: a function of its arguments alone.

    Subjects take turns, so that they are equally frequent in every split. The time, the weather and
    then the season are drawn among those that leave a possible combination: `heldout` takes only
    the combinations of `is_held_out`, every other split only the rest.

    Args and errors are those of `picture_seed`.
    """
    rng = random.Random(f"scene {picture_seed(index, split, seed)}")
    subject = SUBJECTS[index % len(SUBJECTS)]
    scenes = _scenes(subject, held_out=split == "heldout")
    time = _draw(rng, {s.time: _TIME_WEIGHTS[s.time] for s in scenes})
    weather = _draw(rng, {s.weather: _WEATHER_WEIGHTS[s.weather] for s in scenes if s.time == time})
    return rng.choice([s for s in scenes if (s.time, s.weather) == (time, weather)])


@functools.cache
def _scenes(subject: str, held_out: bool) -> tuple[Scene, ...]:
    scenes = (Scene(subject, t, w, s) for t in TIMES for w in WEATHERS for s in SEASONS)
    return tuple(s for s in scenes if is_possible(s) and is_held_out(s) == held_out)


def _draw(rng: random.Random, weights: dict[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]
