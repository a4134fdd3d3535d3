"""Batching step by step against call by call: python -m scripts.measure_batching.

Two servers with the embedded model, one with each DG2_BATCHING, get the same load in turns: clients
that each ask for the next picture of a list as soon as the last one has come. The pictures of the
list differ in steps, solver and guidance. A first round of each, in which programs are compiled, is
not counted. Prints pictures per minute and, of the pictures with the fewest steps, the latency that
95% stay within.
"""

import asyncio
import itertools
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import httpx
from absl import flags

from dg2_jax.scripts.command import command
from dg2_jax.serve.client import AsyncClient

_CLIENTS = flags.DEFINE_integer("clients", 16, "That ask at once.", 1)
_PICTURES = flags.DEFINE_integer("pictures", 126, "Of a round.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "That are counted, of each server.", 1)
_STEPS = flags.DEFINE_list("steps", ["4", "20", "50"], "num_inference_steps of the pictures.")

MODES = ("calls", "steps")
_SOLVERS = ("dpmpp_2m", "ddim", "ddpm", "dpmpp_2m_sde", "unipc", "euler", "euler_ancestral")
_GUIDANCE: tuple[dict[str, Any], ...] = (
    {"guidance_scale": 1.0},
    {"guidance_scale": 2.5},
    {"guidance_scale": 6.0, "guidance_interval": [0.2, 0.9]},
)
_START_SECONDS = 600


class Round(NamedTuple):
    """A round of one server.

    Attributes:
        seconds: from the first request to the last picture.
        latencies: seconds from request to picture, of those with the fewest steps.
    """

    seconds: float
    latencies: list[float]


def requests(steps: list[int], count: int) -> list[dict[str, Any]]:
    """Every mixture of steps, solver and guidance equally often, in an order that is always so."""
    mixtures = list(itertools.product(steps, _SOLVERS, _GUIDANCE))
    asked = [
        {"num_inference_steps": n, "solver": solver, **guidance, "seed": i}
        for i, (n, solver, guidance) in zip(range(count), itertools.cycle(mixtures), strict=False)
    ]
    random.Random(0).shuffle(asked)
    return asked


@contextmanager
def server(mode: str) -> Iterator[str]:
    """The address of a server that batches in this way, once it is compiled."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [sys.executable, "-m", "serve", "--port=0", f"--data={folder}"]
        env = {**os.environ, "DG2_BATCHING": mode}
        process = subprocess.Popen(
            arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert process.stdout is not None  # a pipe
            found = re.search(r"http://\S+", process.stdout.readline())
            if found is None:
                raise RuntimeError("the server did not start")
            _wait_until_warm(found[0])
            yield found[0]
        finally:
            process.terminate()
            process.wait()


def _wait_until_warm(url: str) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        warmup = httpx.get(f"{url}/api/v1/ready", timeout=60).json()["warmup"]
        if warmup["done"] == warmup["total"]:
            return
        time.sleep(0.5)
    raise TimeoutError(f"the server at {url} was not ready in {_START_SECONDS} s")


async def load(url: str, asked: list[dict[str, Any]], clients: int) -> Round:
    """One round: every request once, by clients that wait for their picture."""
    fewest = min(request["num_inference_steps"] for request in asked)
    following = iter(asked)
    latencies: list[float] = []

    async def ask(name: int) -> None:
        async with AsyncClient(url, client_id=f"client-{name}") as client:
            for request in following:
                start = time.perf_counter()
                job = await client.submit(prompt="a lake at dawn", **request)
                await client.wait(job["id"])
                if request["num_inference_steps"] == fewest:
                    latencies.append(time.perf_counter() - start)

    begun = time.perf_counter()
    await asyncio.gather(*(ask(i) for i in range(clients)))
    return Round(time.perf_counter() - begun, latencies)


def run() -> None:
    """Measures in turns and prints a table."""
    steps = [int(text) for text in _STEPS.value]
    asked = requests(steps, _PICTURES.value)
    rounds: dict[str, list[Round]] = {mode: [] for mode in MODES}
    with ExitStack() as stack:
        urls = {mode: stack.enter_context(server(mode)) for mode in MODES}
        for turn in range(_ROUNDS.value + 1):
            for mode, url in urls.items():
                made = asyncio.run(load(url, asked, _CLIENTS.value))
                if turn:
                    rounds[mode].append(made)
    rates = {
        mode: statistics.median(60 * len(asked) / made.seconds for made in rounds[mode])
        for mode in MODES
    }
    tails = {
        mode: statistics.quantiles(
            [seconds for made in rounds[mode] for seconds in made.latencies], n=20
        )[-1]
        for mode in MODES
    }
    print(f"| batching | pictures per minute | p95 latency of {min(steps)} steps |")
    print("|---|--:|--:|")
    for mode in MODES:
        print(f"| {mode} | {rates[mode]:.1f} | {tails[mode]:.2f} s |")
    print(
        f"| ratio | {rates['steps'] / rates['calls']:.2f} | {tails['steps'] / tails['calls']:.2f} |"
    )


if __name__ == "__main__":
    command(run, RuntimeError, httpx.HTTPError)
