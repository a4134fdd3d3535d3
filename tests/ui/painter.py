"""A fake pipeline that paints the scene a prompt names, so that pages look as they do in use."""

from functools import lru_cache

import numpy as np
from PIL import Image

from dg2_jax.data.scenes.attributes import SEASONS, SUBJECTS, TIMES, WEATHERS, Scene
from dg2_jax.data.scenes.render import render
from dg2_jax.pictures.masks import outpaint_canvas
from tests.serve.fakes import FakePipeline

SIZE = 128


def scene_of(prompt: str) -> Scene:
    """The attributes a prompt names, fair summer days where it names none."""
    words = prompt.lower().replace("clear sky", "clear").replace("noon", "day")
    chosen = {"dunes": "desert", "bamboo": "bamboo_grove", "cliff": "sea_cliff"}
    subject = next((s for s in SUBJECTS if s.split("_")[0] in words), None)
    subject = subject or next((s for w, s in chosen.items() if w in words), "hills")
    weathers = {"mist": "foggy", "fog": "foggy", "cloud": "cloudy", "rain": "rain", "snow": "snow"}
    weather = next((name for word, name in weathers.items() if word in words), WEATHERS[0])
    time = next((t for t in TIMES if t in words), "night" if subject == "aurora" else "day")
    season = next((s for s in SEASONS if s in words), "winter" if weather == "snow" else "summer")
    return Scene(subject, time, weather, season)


@lru_cache(maxsize=256)
def paint(prompt: str, seed: int, width: int = SIZE, height: int | None = None) -> np.ndarray:
    """The scene of a prompt, cut to size: uint8 (height, width, 3); square without a height."""
    height = height or width
    return render(scene_of(prompt), seed % 2**31, max(width, height))[:height, :width]


class ScenePipeline(FakePipeline):
    """`FakePipeline` with landscapes; a mask keeps what is black, bit by bit."""

    def __init__(self, step_seconds: float = 0.0):
        super().__init__(step_seconds, SIZE)

    def make(self, prompts, negatives, seeds, image, mask, settings) -> np.ndarray:
        factor = settings.upscale or 1
        width = (settings.width or self.size) * factor
        height = (settings.height or self.size) * factor
        if settings.anagram is not None:
            prompts = [settings.anagram[0][0]] * len(seeds)
        made = np.stack([paint(p, s, width, height) for p, s in zip(prompts, seeds, strict=True)])
        if image is None:
            return made
        if settings.outpaint is not None:
            canvas, new = outpaint_canvas(image, settings.outpaint, width, height)
            return np.where(new[..., None] > 0, made, canvas)
        given = np.asarray(Image.fromarray(image).resize((width, height)))
        if mask is None:
            mixed = settings.strength * made + (1 - settings.strength) * given
            return mixed.astype(np.uint8)
        white = np.asarray(Image.fromarray(mask).resize((width, height)))[..., None] >= 128
        return np.where(white, made, given)
