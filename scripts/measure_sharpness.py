"""How crisp a model's pictures are: python -m scripts.measure_sharpness --out=docs/sharpness.json.

Gradient energy is the mean absolute difference of neighbouring pixels. Each figure is that of the
model's pictures over that of renders: 1 is as crisp as renders, below 1 is soft. "decoded" are test
renders through the autoencoder, with their PSNR; "generated" are pictures of the test captions for
each guidance scale (1 is unguided), with the share in which the probe sees everything the caption
names. Everything is seeded, and renders are regenerated.
"""

import json
import time
from pathlib import Path

import numpy as np
from absl import flags

from dg2_jax.evaluation import reconstruction
from dg2_jax.evaluation.cases import renders
from dg2_jax.evaluation.metrics import gradient_energy
from dg2_jax.evaluation.probe import Probe
from dg2_jax.models.model import WEIGHTS
from dg2_jax.pictures.images import from_uint8
from dg2_jax.pipeline import Pipeline
from dg2_jax.scripts.command import command

_MODEL = flags.DEFINE_string("model", "demo", "An embedded model's name or a model folder.")
_WEIGHTS = flags.DEFINE_enum("weights", "ema", WEIGHTS, "Of those that the model has.")
_SCALES = flags.DEFINE_list("guidance_scale", ["1", "2.5", "5"], "Each is measured; 1: unguided.")
_STEPS = flags.DEFINE_integer("num_inference_steps", None, "By default the weights' own.")
_COUNT = flags.DEFINE_integer("n", 256, "Pictures.", 1)
_BATCH = flags.DEFINE_integer("batch_size", 16, "Pictures at a time.", 1)
_OUT = flags.DEFINE_string("out", None, "Write the figures here, as JSON.")


def _energy(images: np.ndarray) -> float:
    """The mean gradient energy of uint8 pictures."""
    batches = [from_uint8(images[i : i + 32]) for i in range(0, len(images), 32)]
    return float(np.concatenate([np.asarray(gradient_energy(b)) for b in batches]).mean())


def run() -> None:
    """Generates, measures, prints, writes."""
    start = time.perf_counter()
    pipe, probe = Pipeline.load(_MODEL.value), Probe.load()
    drawn = renders("test", _COUNT.value, size=pipe.model.default_size)
    true = _energy(drawn.images)
    figures: dict[str, object] = {
        "model": _MODEL.value,
        "weights": _WEIGHTS.value,
        "n": _COUNT.value,
        "num_inference_steps": _STEPS.value,
        "decoded": reconstruction.quality(pipe.model, drawn.images),
    }
    generated = {}
    for scale in _SCALES.value:
        batches = []
        for i in range(0, _COUNT.value, _BATCH.value):
            texts = drawn.captions[i : i + _BATCH.value]
            result = pipe(
                texts,
                num_inference_steps=_STEPS.value,
                guidance_scale=float(scale),
                seed=list(range(i, i + len(texts))),
                weights=_WEIGHTS.value,
            )
            batches.append(result.images)
        images = np.concatenate(batches)
        generated[scale] = {
            "sharpness": _energy(images) / true,
            "joint": probe(images).accuracy(drawn.asked)["joint"],
        }
    figures |= {"generated": generated, "minutes": (time.perf_counter() - start) / 60}
    text = json.dumps(figures, indent=1)
    print(text)
    if _OUT.value:
        Path(_OUT.value).write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    command(run)
