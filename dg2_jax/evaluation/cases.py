"""The prompts that models are evaluated with, and what their pictures should show.

Renders come with captions and attributes; free_prompts.txt holds prompts in a user's own words.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from dg2_jax.data.scenes.attributes import SUBJECTS, TIMES, WEATHERS
from dg2_jax.data.scenes.builder import IMAGE_SIZE, NUM_CAPTIONS
from dg2_jax.data.scenes.captions import captions
from dg2_jax.data.scenes.render import render
from dg2_jax.data.scenes.sampling import draw_scene, picture_seed

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "subject": SUBJECTS,
    "time": TIMES,
    "weather": WEATHERS,
}
Expected = dict[str, np.ndarray]  # (n,) indices into the values of each attribute; -1: any
_FREE_PROMPTS = Path(__file__).parent / "free_prompts.txt"


class Renders(NamedTuple):
    """Pictures of `dg2_scenes`.

    Attributes:
        images: uint8.
        captions: one each.
        shown: what the pictures show.
        asked: the part of it that the captions name: a bare "woods" asks for no time of day.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    captions: list[str]
    shown: Expected
    asked: Expected


def renders(split: str, count: int, seed: int = 0, size: int = IMAGE_SIZE) -> Renders:
    """Renders the first pictures of a split; no data set is needed.

    Args:
        split: see `data.scenes.sampling`.
        count: at least 1.
        seed: the data set's.
        size: height and width of the pictures.
    """
    images, texts, scenes, asked = [], [], [], []
    for index in tqdm(range(count), desc=f"{split} renders", leave=False):
        scene, own_seed = draw_scene(index, split, seed), picture_seed(index, split, seed)
        images.append(render(scene, own_seed, size))
        text, names = captions(scene, own_seed, NUM_CAPTIONS)[index % NUM_CAPTIONS]
        texts.append(text)
        scenes.append(scene._asdict())
        asked.append({k: v if k in names else "" for k, v in scene._asdict().items()})
    return Renders(np.stack(images), texts, _indices(scenes), _indices(asked))


def free_prompts() -> tuple[list[str], Expected]:
    """The free prompts and the attributes they ask for."""
    lines = _FREE_PROMPTS.read_text("utf-8").splitlines()
    rows = [line.split("|") for line in lines if line and not line.startswith("#")]
    asked = [dict(zip(ATTRIBUTES, row[:-1], strict=True)) for row in rows]
    return [row[-1] for row in rows], _indices(asked)


def _indices(shown: Sequence[Mapping[str, str]]) -> Expected:
    return {
        name: np.array([values.index(each[name]) if each[name] else -1 for each in shown])
        for name, values in ATTRIBUTES.items()
    }
