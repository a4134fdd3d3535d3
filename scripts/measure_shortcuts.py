"""What shortcuts save and cost: python -m scripts.measure_shortcuts.

A case is STEPS:REUSE_EVERY or STEPS:REUSE_EVERY:DTYPE, with the denoiser's weights in that dtype
(`Pipeline.quantized`). Fewer steps are cases too, since they also save time. For each case one
picture is timed, in turns with the other cases. Then pictures of the test captions are generated
with the same seeds and judged by the attribute probe as in scripts.evaluate. `to_first` is their
PSNR to those of the first case, in dB.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from dg2_jax.evaluation import distances
from dg2_jax.evaluation.cases import renders
from dg2_jax.evaluation.metrics import psnr
from dg2_jax.evaluation.probe import Probe
from dg2_jax.models import folder as model
from dg2_jax.pictures.images import from_uint8
from dg2_jax.pipeline import Pipeline
from dg2_jax.scripts.command import command
from dg2_jax.settings import BATCH_SIZES, for_model

_MODEL = flags.DEFINE_string("model", "demo", "An embedded model's name or a model folder.")
_WEIGHTS = flags.DEFINE_enum("weights", "ema", model.WEIGHTS, "Of those that the model has.")
_CASES = flags.DEFINE_list(
    "cases", ["20:1", "20:2", "20:3", "20:5", "14:1", "10:1", "7:1"], "STEPS:REUSE_EVERY[:DTYPE]."
)
_TEST = flags.DEFINE_integer("test", 256, "Captions of the test split.", 2)
_ROUNDS = flags.DEFINE_integer("rounds", 10, "How often one picture of each case is timed.", 1)
_OUT = flags.DEFINE_string("out", None, "Write the figures here, as JSON.")

_ROW = "| {} | {:.3f} s | {:.1%} | {:.4f} | {:.2f} | {:.1f} |"


def parse_case(text: str) -> tuple[dict[str, Any], str | None]:
    """The settings and the dtype of a case; raises ValueError for anything else."""
    try:
        steps, every, *dtypes = text.split(":")
        settings = {"num_inference_steps": int(steps), "reuse_every": int(every)}
        (dtype,) = dtypes or (None,)
    except ValueError:
        raise ValueError(
            f"cases must be STEPS:REUSE_EVERY or STEPS:REUSE_EVERY:DTYPE with commas, got {text!r}"
        ) from None
    return settings, dtype


def _timed(cases: dict[str, tuple[Pipeline, dict[str, Any]]]) -> dict[str, list[float]]:
    """Seconds of one picture of each case, without compilation."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(_ROUNDS.value + 1):
        for name, (pipe, settings) in cases.items():
            start = time.perf_counter()
            pipe("a volcano at sunset", weights=_WEIGHTS.value, **settings)
            if turn:
                times[name].append(time.perf_counter() - start)
    return times


def _generate(
    pipe: Pipeline, captions: list[str], name: str, settings: dict[str, Any]
) -> np.ndarray:
    pictures = []
    for start in tqdm(range(0, len(captions), BATCH_SIZES[-1]), desc=name, leave=False):
        batch = captions[start : start + BATCH_SIZES[-1]]
        seeds = list(range(start, start + len(batch)))
        pictures.append(pipe(batch, seed=seeds, weights=_WEIGHTS.value, **settings).images)
    return np.concatenate(pictures)


def run() -> None:
    """Times, generates, measures, prints, writes."""
    asked = {text: parse_case(text) for text in _CASES.value}
    pipe, probe = Pipeline.load(_MODEL.value), Probe.load()
    drawn = renders("test", _TEST.value, size=pipe.model.default_size)
    pipes = {dtype: pipe.quantized(dtype) if dtype else pipe for _, dtype in asked.values()}
    cases = {name: (pipes[dtype], case) for name, (case, dtype) in asked.items()}
    settings = for_model(pipe.model, _WEIGHTS.value)
    times, real = _timed(cases), probe(drawn.images)
    measured: dict[str, dict[str, object]] = {}
    first: np.ndarray | None = None
    print("| case | one picture | joint | KID | Fréchet | PSNR to the first, dB |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, (own, case) in cases.items():
        generated = _generate(own, drawn.captions, name, case)
        first = generated if first is None else first
        seen = probe(generated)
        shares = seen.accuracy(drawn.asked)
        kid = distances.kid(seen.features, real.features)
        frechet = distances.frechet(seen.features, real.features)
        # Equal pictures, as in the first case, have infinite PSNR, which JSON lacks.
        decibels = np.asarray(psnr(from_uint8(generated), from_uint8(first)))
        to_first = float(np.minimum(decibels, 99.0).mean())
        median = statistics.median(times[name])
        print(_ROW.format(name, median, shares["joint"], kid, frechet, to_first), flush=True)
        measured[name] = {
            "seconds": times[name], "generated": shares, "kid": kid, "frechet": frechet,
            "to_first": to_first,
        }  # fmt: skip
    figures = {
        "settings": {
            "model": _MODEL.value, "weights": settings.weights, "n": _TEST.value,
            "guidance_scale": settings.guidance_scale, "solver": settings.solver,
        },
        "cases": measured,
    }  # fmt: skip
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    command(run)
