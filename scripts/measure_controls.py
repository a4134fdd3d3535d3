"""Measures in-painting seams, anagrams, equivariance and the cost of previews.

    python -m scripts.measure_controls --out=docs/controls.json --sheet=docs/gallery/anagrams.png

- Seams: a disc of each test render is repainted from its own caption at strength 1, with
paste-back;
  the gradient across the mask's edge over that of the untouched picture, as a ratio of means.
- Anagrams: pairs of subjects, the second seen after half a turn. S_ij = log P(subject j | view i)
  by the probe; `alignment` is exp of A, the probability of the less visible subject.
- Equivariance: e(v) of the autoencoder on test renders, see `evaluation.metrics`.
- Previews: one picture of 20 steps with linear previews every 5 steps, and one without, in turns;
  each comes first in every other round.
"""

import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from PIL import Image
from tqdm import tqdm

from dg2_jax import settings
from dg2_jax.data.scenes.attributes import SUBJECTS
from dg2_jax.diffusion import anagram, views
from dg2_jax.evaluation.cases import renders
from dg2_jax.evaluation.metrics import equivariance_error
from dg2_jax.evaluation.probe import Probe
from dg2_jax.pictures import images, masks
from dg2_jax.pictures.images import from_uint8
from dg2_jax.pipeline import Pipeline
from dg2_jax.result import Preview
from dg2_jax.scripts.command import command

_MODEL = flags.DEFINE_string("model", "demo", "An embedded model's name or a model folder.")
_CASES = flags.DEFINE_integer("cases", 50, "In-paintings.", 1)
_PAIRS = flags.DEFINE_integer("pairs", 96, "Anagrams.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 60, "Of the timing.", 1)
_OUT = flags.DEFINE_string("out", None, "Write the figures here, as JSON.")
_SHEET = flags.DEFINE_string("sheet", None, "Write the first anagrams and their half turns here.")


def _disc(rng: np.random.Generator, side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side] / side
    (at_y, at_x), radius = rng.uniform(0.25, 0.75, 2), rng.uniform(0.12, 0.27)
    return np.asarray(np.hypot(y - at_y, x - at_x) < radius)


def _across(picture: np.ndarray, mask: np.ndarray) -> float:
    """The mean difference between neighbouring pixels on either side of the mask's edge."""
    steps = [
        np.abs(np.diff(picture.astype(float), axis=axis)).mean(-1)[np.diff(mask, axis=axis)]
        for axis in (0, 1)
    ]
    return float(np.concatenate(steps).mean())


def seams(pipe: Pipeline, count: int) -> dict[str, float]:
    """The seam ratio, and the largest change outside the feathered masks."""
    rng = np.random.default_rng(0)
    painted, untouched, outside = [], [], 0
    drawn = renders("test", count, size=pipe.model.default_size)
    cases = zip(drawn.images, drawn.captions, strict=True)
    for i, (picture, caption) in enumerate(tqdm(cases, "in-painting", count, leave=False)):
        mask = _disc(rng, len(picture))
        result = pipe(caption, image=picture, mask=mask, strength=1.0, seed=i).images[0]
        painted.append(_across(result, mask))
        untouched.append(_across(picture, mask))
        far = masks.feather(mask.astype(np.float32), settings.Settings().mask_feather) == 0
        outside = max(outside, int(np.abs(result.astype(int) - picture)[far].max()))
    ratio = statistics.mean(painted) / statistics.mean(untouched)
    return {"cases": count, "seam_ratio": ratio, "largest_change_outside": outside}


def _subject_pairs(count: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(1)
    pairs = [(a, b) for a in range(len(SUBJECTS)) for b in range(len(SUBJECTS)) if a != b]
    return [pairs[i] for i in rng.permutation(len(pairs))[:count]]


def anagrams(
    pipe: Pipeline, probe: Probe, count: int
) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
    """Figures and pictures of each mode, for the same pairs, noises and views."""
    pairs = _subject_pairs(count)
    figures, pictures = {}, {}
    for mode in settings.ANAGRAM_MODES:
        upright = np.concatenate(
            [
                pipe(anagram=_prompts(pair), anagram_mode=mode, seed=i).images
                for i, pair in enumerate(tqdm(pairs, desc=f"anagrams, {mode}", leave=False))
            ]
        )
        seen = [probe(view).log_probabilities["subject"] for view in _upright_and_turned(upright)]
        alignments, concealments, both = [], [], []
        for i, pair in enumerate(pairs):
            scores = np.stack([view[i][list(pair)] for view in seen])
            a, c = anagram.alignment_and_concealment(jnp.asarray(scores), temperature=1.0)
            alignments.append(float(np.exp(a)))
            concealments.append(float(c))
            both.append(all(view[i].argmax() == s for view, s in zip(seen, pair, strict=True)))
        figures[mode] = {
            "alignment": statistics.mean(alignments),
            "mean_log_alignment": statistics.mean(np.log(alignments).tolist()),
            "concealment": statistics.mean(concealments),
            "both_right": statistics.mean(both),
        }
        pictures[mode] = upright
    return figures, pictures


def _upright_and_turned(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return pictures, views.apply_to_images(pictures, "rot180")


def _prompts(pair: tuple[int, int]) -> tuple[tuple[str, str], ...]:
    names = [SUBJECTS[i].replace("_", " ") for i in pair]
    return tuple((n, v) for n, v in zip(names, ("identity", "rot180"), strict=True))


def equivariance(pipe: Pipeline, count: int = 64) -> dict[str, float]:
    """e(v) of the turns and flips."""
    model = pipe.model
    vae = model.autoencoder.bind(model.autoencoder_params)
    pixels = from_uint8(renders("test", count, size=model.default_size).images)

    def error(name: str) -> float:
        def turn(x: jax.Array) -> jax.Array:
            return views.apply(x, views.make(name, x.shape[1], cells=x.shape[1]))

        return float(equivariance_error(vae, pixels, turn))

    turns = ("rot90", "rot180", "rot270", "flip_horizontal", "flip_vertical")
    return {name: error(name) for name in turns}


def preview_cost(pipe: Pipeline, rounds: int) -> dict[str, float]:
    """Median times of a run with and without previews, taking turns."""
    times: dict[str, list[float]] = {"without": [], "with": []}

    def look(shown: Preview) -> None:
        np.asarray(shown.images)

    ways = [("without", None), ("with", look)]
    for turn in range(rounds + 1):
        for name, watch in ways[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            pipe("a lake at dawn", seed=turn, on_preview=watch, preview_every=5)
            if turn:
                times[name].append(time.perf_counter() - start)
    ratios = [b / a for a, b in zip(*times.values(), strict=True)]
    return {
        "ms_without": 1e3 * statistics.median(times["without"]),
        "ms_with": 1e3 * statistics.median(times["with"]),
        "cost": statistics.median(ratios) - 1,
    }


def run() -> None:
    """Measures, prints, writes."""
    pipe, probe = Pipeline.load(_MODEL.value), Probe.load()
    figures: dict[str, object] = {"preview": preview_cost(pipe, _ROUNDS.value)}
    figures["equivariance"] = equivariance(pipe)
    figures["inpainting"] = seams(pipe, _CASES.value)
    figures["anagrams"], pictures = anagrams(pipe, probe, _PAIRS.value)
    text = json.dumps(figures, indent=1)
    print(text)
    if _OUT.value:
        Path(_OUT.value).write_text(text + "\n", "utf-8")
    if _SHEET.value:
        _write_sheet(Path(_SHEET.value), pictures, _PAIRS.value)


def _write_sheet(path: Path, by_mode: dict[str, np.ndarray], count: int) -> None:
    """One row per mode and view, one column per pair."""
    pairs = _subject_pairs(count)[:8]
    pictures, labels = [], []
    for mode, upright in by_mode.items():
        for number, view in enumerate(_upright_and_turned(upright)):
            for i, pair in enumerate(pairs):
                pictures.append(view[i])
                labels.append(f"{mode}: {SUBJECTS[pair[number]].replace('_', ' ')}")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(images.contact_sheet(np.stack(pictures), len(pairs), labels)).save(path)


if __name__ == "__main__":
    command(run)
