"""Times the embedded model on this machine: python -m scripts.benchmark.

Every case is compiled and run once before, then all cases are run in turn --rounds times; the table
gives medians, so that a noisy machine disturbs all cases alike.
"""

import statistics
import time
from collections.abc import Callable

import jax
from absl import app, flags, logging
from tqdm import tqdm

from dg2_jax import compile_cache
from dg2_jax.pipeline import Pipeline

_MODEL = flags.DEFINE_string("model", "demo", "An embedded model's name or a model folder.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often each case is timed.", 1)


def _cases(pipe: Pipeline) -> dict[str, Callable[[], object]]:
    prompt = "a volcano at sunset"
    return {
        "text encoding, 16 prompts": lambda: pipe.text_encoder.encode([prompt] * 16),
        "1 image, 1 step": lambda: pipe(prompt, num_inference_steps=1),
        "1 image, 20 steps": lambda: pipe(prompt),
        "1 image, 20 steps, unguided": lambda: pipe(prompt, guidance_scale=1.0),
        "4 images, 20 steps": lambda: pipe(prompt, num_images=4),
        "16 images, 20 steps": lambda: pipe(prompt, num_images=16),
    }


def main(argv: list[str]) -> None:
    """Parses the flags, times, prints a table."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    logging.set_verbosity(logging.WARNING)
    compile_cache.enable()
    cases = _cases(Pipeline.load(_MODEL.value))
    times: dict[str, list[float]] = {name: [] for name in cases}
    for case in tqdm(cases.values(), desc="compiling", leave=False):
        case()
    for _ in tqdm(range(_ROUNDS.value), desc="timing", leave=False):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            times[name].append(time.perf_counter() - start)
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, median of {_ROUNDS.value}")
    for name, values in times.items():
        print(f"{name:30} {1e3 * statistics.median(values):9.1f} ms")


if __name__ == "__main__":
    app.run(main)
