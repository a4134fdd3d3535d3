"""Batches step by step beside batches call by call, for a queue of pictures that differ.

Always so many pictures wait, as with clients that each ask for the next one when the last has come.
Call by call, the oldest runs with those that wait and agree with it in all settings; step by step,
all share batches (`dg2_jax.generation.slots`). Without a server, so the difference is the engine's.
"""

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dg2_jax.pipeline import Pipeline
from dg2_jax.scripts.accelerator.options import Options
from dg2_jax.scripts.accelerator.record import Record

_WAITING = 16
_PICTURES = 96
_STEPS = (4, 20, 50)
_SOLVERS = ("dpmpp_2m", "ddim", "euler")  # guided alike, so that few programs are compiled
_BRANCHES = 32  # two for a guided picture

Request = Mapping[str, Any]


def requests(count: int, steps: Sequence[int]) -> list[dict[str, Any]]:
    """Every mixture of steps and solver equally often, in an order that is always so."""
    mixtures = itertools.islice(itertools.cycle(itertools.product(steps, _SOLVERS)), count)
    asked = [{"num_inference_steps": n, "solver": solver} for n, solver in mixtures]
    random.Random(0).shuffle(asked)
    return [{"prompt": "a lake at dawn", "seed": i, **one} for i, one in enumerate(asked)]


def run(record: Record, options: Options) -> None:
    """A case for each way."""
    pipe = Pipeline.load("demo", compile_cache=False)
    asked = requests(6, (1, 2)) if options.quick else requests(_PICTURES, _STEPS)
    waiting = 3 if options.quick else _WAITING
    branches = 4 if options.quick else _BRANCHES
    ways = {
        "call by call": lambda: by_calls(pipe, asked, waiting),
        "step by step": lambda: by_steps(pipe, asked, branches),
    }
    queue = {"steps": sorted({one["num_inference_steps"] for one in asked}), "waiting": waiting}
    for name, way in ways.items():
        record.case({"batching": name, **queue}, measure, way, len(asked))


def measure(way: Callable[[], Iterator[int]], count: int) -> dict[str, Any]:
    """Pictures per minute, of a second run; the first one compiles.

    Raises:
        ValueError: not every picture was made, once.
    """
    start = time.perf_counter()
    made = sorted(way())
    middle = time.perf_counter()
    if made != list(range(count)):
        raise ValueError(f"{count} pictures were asked for, and made: {made}")
    for _ in way():
        pass
    taken = time.perf_counter() - middle
    return {"pictures": count, "first_s": middle - start, "pictures_per_min": 60 * count / taken}


def by_calls(pipe: Pipeline, asked: Sequence[Request], waiting: int) -> Iterator[int]:
    """The numbers of the pictures, as they are made by calls of those that agree."""
    queue = list(range(len(asked)))
    while queue:
        seen = queue[:waiting]
        alike = [i for i in seen if _settings(asked[i]) == _settings(asked[seen[0]])]
        prompts = [asked[i]["prompt"] for i in alike]
        pipe(prompts, seed=[asked[i]["seed"] for i in alike], **_settings(asked[alike[0]]))
        queue = [i for i in queue if i not in alike]
        yield from alike


def _settings(request: Request) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name not in ("prompt", "seed")}


def by_steps(pipe: Pipeline, asked: Sequence[Request], branches: int) -> Iterator[int]:
    """The numbers of the pictures, as they leave batches of so many branches."""
    return (number for number, _ in pipe.stream(asked, branches))
