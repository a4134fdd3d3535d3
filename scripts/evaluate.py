"""Measures a model by the attribute probe: python -m scripts.evaluate --out=docs/evaluation.json.

One picture per caption: of the test split, of the held-out combinations, and of prompts in a user's
own words (dg2_jax/evaluation/free_prompts.txt). An attribute counts if the caption names it;
"joint" means all named attributes. For comparison, the same probe judges the renders in all
attributes. The autoencoder is measured separately, on test renders and on the photographs of
--photos. Everything is seeded and needs only the shipped files, as renders are regenerated. --clip
adds CLIP's judgement of the test captions' pictures: its score, and distances between its features.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from dg2_jax.evaluation import distances, reconstruction
from dg2_jax.evaluation.cases import Renders, free_prompts, renders
from dg2_jax.evaluation.clip import ClipJudge, clip_score
from dg2_jax.evaluation.probe import Probe
from dg2_jax.models.model import WEIGHTS
from dg2_jax.pictures.images import cell_means
from dg2_jax.pipeline import Pipeline
from dg2_jax.scripts.command import command
from dg2_jax.settings import BATCH_SIZES, for_model

_MODEL = flags.DEFINE_string("model", "demo", "An embedded model's name or a model folder.")
_WEIGHTS = flags.DEFINE_enum("weights", "ema", WEIGHTS, "Of those that the model has.")
_STEPS = flags.DEFINE_integer(
    "num_inference_steps", None, "1 to 1000; by default the weights' own."
)
_GUIDANCE = flags.DEFINE_float("guidance_scale", None, "1 is unguided; the weights' own.")
_TEST = flags.DEFINE_integer("test", 1000, "Captions of the test split.", 2)
_HELDOUT = flags.DEFINE_integer("heldout", 500, "Captions of held-out combinations.", 2)
_NEIGHBOURS = flags.DEFINE_integer("neighbours", 2000, "Training renders to be compared with.", 2)
_PHOTOS = flags.DEFINE_string("photos", None, "A folder of photographs to be rebuilt as well.")
_CLIP = flags.DEFINE_string("clip", None, "A CLIP, as --text_encoder; none by default.")
_OUT = flags.DEFINE_string("out", None, "Write the figures here, as JSON.")

_REBUILT = 256  # test renders that the autoencoder is measured on
_SIDE = 16  # of the averaged pictures compared for nearest neighbours, without detail and noise


def _generate(pipe: Pipeline, prompts: Sequence[str], what: str) -> np.ndarray:
    pictures = []
    size = BATCH_SIZES[-1]
    for start in tqdm(range(0, len(prompts), size), desc=what, leave=False):
        batch = prompts[start : start + size]
        seeds = list(range(start, start + len(batch)))
        result = pipe(
            batch,
            num_inference_steps=_STEPS.value,
            guidance_scale=_GUIDANCE.value,
            seed=seeds,
            weights=_WEIGHTS.value,
        )
        pictures.append(result.images)
    return np.concatenate(pictures)


def _to_nearest(pictures: np.ndarray, known: np.ndarray) -> float:
    """The median over pictures of the distance to the nearest known one."""
    theirs, others = (
        cell_means(images, _SIDE, _SIDE).reshape(len(images), -1) / 255.0
        for images in (pictures, known)
    )
    return float(np.median(distances.nearest(theirs, others)[0]))


def _by_clip(judge: ClipJudge, generated: np.ndarray, drawn: Renders) -> dict[str, float]:
    seen, real, texts = (
        judge.images(generated),
        judge.images(drawn.images),
        judge.texts(drawn.captions),
    )
    return {
        "score": clip_score(seen, texts),
        "score_of_renders": clip_score(real, texts),
        "cmmd": distances.cmmd(seen, real),
        "frechet": distances.frechet(seen, real),
    }


def _autoencoder(pipe: Pipeline, images: np.ndarray) -> dict[str, object]:
    model = pipe.model
    figures: dict[str, object] = {
        "renders": {"n": len(images)} | reconstruction.quality(model, images),
        "equivariance_rot180": reconstruction.half_turn_error(model, images[:64]),
    }
    if _PHOTOS.value:
        photos = reconstruction.photographs(_PHOTOS.value, model.default_size)
        figures["photographs"] = {"n": len(photos)} | reconstruction.quality(model, photos)
    return figures


def run() -> None:
    """Generates, measures, prints, writes."""
    start = time.perf_counter()
    pipe, probe = Pipeline.load(_MODEL.value), Probe.load()
    settings = for_model(
        pipe.model,
        _WEIGHTS.value,
        num_inference_steps=_STEPS.value,
        guidance_scale=_GUIDANCE.value,
    )
    figures: dict[str, object] = {
        "settings": {
            "model": _MODEL.value,
            "weights": settings.weights,
            "num_inference_steps": settings.num_inference_steps,
            "guidance_scale": settings.guidance_scale,
            "solver": settings.solver,
        }
    }
    for split, count in (("test", _TEST.value), ("heldout", _HELDOUT.value)):
        drawn = renders(split, count, size=pipe.model.default_size)
        generated = _generate(pipe, drawn.captions, f"{split} captions")
        real, seen = probe(drawn.images), probe(generated)
        figures[split] = {
            "n": count,
            "generated": seen.accuracy(drawn.asked),
            "renders": real.accuracy(drawn.shown),
            "kid": distances.kid(seen.features, real.features),
            "cmmd": distances.cmmd(seen.features, real.features),
            "frechet": distances.frechet(seen.features, real.features),
        }
        if split == "test":
            known = renders("train", _NEIGHBOURS.value, size=pipe.model.default_size).images
            figures["nearest_training_render"] = {
                "median_of_generated": _to_nearest(generated, known),
                "median_of_renders": _to_nearest(drawn.images, known),
            }
            figures["autoencoder"] = _autoencoder(pipe, drawn.images[:_REBUILT])
            if _CLIP.value:
                figures["clip"] = _by_clip(ClipJudge(_CLIP.value), generated, drawn)
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
