"""What the server does under load with the embedded model: throughput, latencies, equal pictures.

    python -m tests.serve.load --images=48

A server of its own is started (`python -m serve`); once all its batch sizes are compiled, in turn,
one client asks for pictures one after the other, and 16 clients do at once, each for its next one
when the last has come. Every picture is asked for both ways and must be the same: a grey level may
round the other way, since sums of a larger batch are taken in another order, and no more than that.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from dg2_jax.serve.client import AsyncClient

_CLIENTS = 16
_ROOT = Path(__file__).parents[2]


async def pictures(
    url: str, clients: int, count: int, first: int
) -> tuple[float, dict[int, np.ndarray]]:
    """Seconds for `count` pictures by some clients, and the pictures by seed."""
    seeds = iter(range(first, first + count))
    made: dict[int, np.ndarray] = {}

    async def ask(name: int) -> None:
        async with AsyncClient(url, client_id=f"client-{name}") as client:
            for seed in seeds:
                job = await client.submit(prompt=f"a lake at dawn, {seed}", seed=seed)
                (entry,) = (await client.wait(job["id"]))["images"]
                made[seed] = np.asarray(await client.image(entry), np.int16)

    start = time.perf_counter()
    await asyncio.gather(*(ask(i) for i in range(clients)))
    return time.perf_counter() - start, made


async def watched(url: str, count: int) -> tuple[list[float], list[float]]:
    """Seconds of health checks while pictures are made, and from a step to its preview's arrival.

    An event's id is the time at which it happened, in nanoseconds since 1970.
    """
    health: list[float] = []
    previews: list[float] = []

    async def check() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            while True:
                start = time.perf_counter()
                (await client.get("/api/v1/health")).raise_for_status()
                health.append(time.perf_counter() - start)
                await asyncio.sleep(0.01)

    checking = asyncio.create_task(check())
    async with AsyncClient(url) as client:
        for seed in range(count):
            job = await client.submit(prompt="a canyon", seed=seed, preview_every=1)
            async for event in client.events(job["id"]):
                if event.name == "preview":
                    previews.append(time.time() - int(event.id) / 1e9)
    checking.cancel()
    return health, previews


def percentile(values: list[float], share: float) -> float:
    """Of sorted values."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def measure(url: str, images: int, rounds: int) -> dict[str, Any]:
    """All figures; raises AssertionError if a picture differs between the two ways."""
    ratios, rates, changed = [], [], []
    for turn in range(rounds):
        first = 10_000 * turn
        alone, one = await pictures(url, 1, images, first)
        together, all_of_them = await pictures(url, _CLIENTS, images, first)
        differences = np.abs(np.stack([one[seed] - all_of_them[seed] for seed in one]))
        assert differences.max() <= 1, "pictures differ"
        changed.append(float((differences > 0).mean()))
        ratios.append(alone / together)
        rates.append((60 * images / alone, 60 * images / together))
    health, previews = await watched(url, 10)
    return {
        "images_a_minute_one_client": statistics.median(a for a, _ in rates),
        f"images_a_minute_{_CLIENTS}_clients": statistics.median(b for _, b in rates),
        "ratio": statistics.median(ratios),
        "values_rounded_differently": max(changed),
        "health_p99_ms": 1e3 * percentile(health, 0.99),
        "health_checks": len(health),
        "preview_p99_ms": 1e3 * percentile(previews, 0.99),
        "previews": len(previews),
    }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=8099)
    options = parser.parse_args()
    url = f"http://127.0.0.1:{options.port}"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "serve", f"--port={options.port}", f"--data={folder}"]
        server = subprocess.Popen(
            command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_until_warm(url)
            print(json.dumps(asyncio.run(measure(url, options.images, options.rounds)), indent=1))
        finally:
            server.terminate()
            server.wait(30)


def wait_until_warm(url: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            warmup = httpx.get(f"{url}/api/v1/ready").json()["warmup"]
            if warmup["done"] == warmup["total"]:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"the server at {url} did not get ready in {seconds:.0f} s")


if __name__ == "__main__":
    main()
