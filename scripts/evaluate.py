"""Measures a model by the attribute probe: python -m scripts.evaluate --out=docs/evaluation.json.

One picture a caption: of the test split, of the held-out combinations, and of prompts in a user's
words (dg2_jax/evaluation/free_prompts.txt). The renders stand beside them under the same probe.
Everything is seeded; nothing but the shipped files is needed (renders are drawn anew).
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image
from tqdm import tqdm

from dg2_jax import evaluation
from dg2_jax.data.scenes.builder import make_example
from dg2_jax.evaluation import distances
from dg2_jax.evaluation.probe import ATTRIBUTES, Probe
from dg2_jax.pipeline import Pipeline
from scripts.command import command

_MODEL = flags.DEFINE_string("model", "demo", "An embedded model's name or a model folder.")
_WEIGHTS = flags.DEFINE_string("weights", "ema", "ema or raw.")
_STEPS = flags.DEFINE_integer("num_inference_steps", 20, "Steps, 1 to 1000.")
_GUIDANCE = flags.DEFINE_float("guidance_scale", 5.0, "1 is unguided.")
_TEST = flags.DEFINE_integer("test", 1000, "Captions of the test split.", 2)
_HELDOUT = flags.DEFINE_integer("heldout", 500, "Captions of held-out combinations.", 2)
_NEIGHBOURS = flags.DEFINE_integer("neighbours", 2000, "Training renders to be compared with.", 2)
_OUT = flags.DEFINE_string("out", None, "Write the figures here, as JSON.")

_BATCH = 16


def _renders(split: str, count: int) -> tuple[np.ndarray, list[str], dict[str, np.ndarray]]:
    """Pictures, one caption each, and the attributes' indices."""
    examples = [
        make_example(i, split, 0) for i in tqdm(range(count), desc=f"{split} renders", leave=False)
    ]
    pictures = np.stack([np.asarray(Image.open(e["image"]).convert("RGB")) for e in examples])
    captions = [e["captions"][i % len(e["captions"])] for i, e in enumerate(examples)]
    expected = {
        name: np.array([values.index(e[name]) for e in examples])
        for name, values in ATTRIBUTES.items()
    }
    return pictures, captions, expected


def free_prompts() -> tuple[list[str], dict[str, np.ndarray]]:
    """The prompts of free_prompts.txt and what they ask for, -1 where they do not say."""
    text = (Path(evaluation.__file__).parent / "free_prompts.txt").read_text("utf-8")
    rows = [line.split("|") for line in text.splitlines() if line and not line.startswith("#")]
    expected = {
        name: np.array([values.index(row[i]) if row[i] else -1 for row in rows])
        for i, (name, values) in enumerate(ATTRIBUTES.items())
    }
    return [row[3] for row in rows], expected


def _generate(pipe: Pipeline, prompts: Sequence[str], what: str) -> np.ndarray:
    made = []
    for start in tqdm(range(0, len(prompts), _BATCH), desc=what, leave=False):
        batch = prompts[start : start + _BATCH]
        seeds = list(range(start, start + len(batch)))
        result = pipe(
            batch,
            num_inference_steps=_STEPS.value,
            guidance_scale=_GUIDANCE.value,
            seed=seeds,
            weights=_WEIGHTS.value,
        )
        made.append(result.images)
    return np.concatenate(made)


def _small(pictures: np.ndarray) -> np.ndarray:
    """16 x 16 means: what two pictures share beyond detail and noise."""
    n, h, w, c = pictures.shape
    cells = pictures.reshape(n, 16, h // 16, 16, w // 16, c).mean((2, 4))
    return cells.reshape(n, -1) / 255.0


def run() -> None:
    """Generates, measures, prints, writes."""
    start = time.perf_counter()
    pipe, probe = Pipeline.load(_MODEL.value), Probe.load()
    figures: dict[str, object] = {
        "settings": {
            "model": _MODEL.value,
            "weights": _WEIGHTS.value,
            "num_inference_steps": _STEPS.value,
            "guidance_scale": _GUIDANCE.value,
        }
    }
    for split, count in (("test", _TEST.value), ("heldout", _HELDOUT.value)):
        renders, captions, expected = _renders(split, count)
        made = _generate(pipe, captions, f"{split} captions")
        real, seen = probe(renders), probe(made)
        figures[split] = {
            "n": count,
            "generated": seen.accuracy(expected),
            "renders": real.accuracy(expected),
            "kid": distances.kid(seen.features, real.features),
            "cmmd": distances.cmmd(seen.features, real.features),
            "frechet": distances.frechet(seen.features, real.features),
        }
        if split == "test":
            known = _small(_renders("train", _NEIGHBOURS.value)[0])
            figures["nearest_training_render"] = {
                "median_of_generated": float(np.median(distances.nearest(_small(made), known)[0])),
                "median_of_renders": float(np.median(distances.nearest(_small(renders), known)[0])),
            }
    prompts, expected = free_prompts()
    shares = probe(_generate(pipe, prompts, "free prompts")).accuracy(expected)
    figures["free_prompts"] = {"n": len(prompts), "generated": shares}
    figures["minutes"] = (time.perf_counter() - start) / 60
    text = json.dumps(figures, indent=1)
    print(text)
    if _OUT.value:
        Path(_OUT.value).write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    command(run)
