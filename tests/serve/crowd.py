"""Many clients at once, each checking its own picture.

python -m tests.serve.crowd --clients=200       # against a server of its own, with figures
"""

import argparse
import asyncio
import contextlib
import hashlib
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from dg2_jax.serve.client import AsyncClient, ServerError
from tests.serve.fakes import FakePipeline
from tests.serve.live import PROCESS_SIZE, Process, run_async


@dataclass
class Report:
    """What became of everybody's job."""

    done: int = 0
    refused: int = 0
    refused_without_retry_after: int = 0
    wrong: int = 0
    lost: int = 0
    seconds: float = 0.0
    health: list[float] = field(default_factory=list)

    @property
    def health_p99(self) -> float:
        return sorted(self.health)[max(0, int(0.99 * len(self.health)) - 1)]


def crowd(url: str, clients: int, steps: int = 10) -> Report:
    """Lets `clients` clients each ask for one picture at once."""
    return run_async(_crowd(url, clients, steps))


async def _crowd(url: str, clients: int, steps: int) -> Report:
    report = Report()
    alone = FakePipeline(size=PROCESS_SIZE)
    expected = [
        hashlib.sha256(
            alone(f"crowd {i}", seed=i, num_inference_steps=steps).images[0].tobytes()
        ).hexdigest()
        for i in range(clients)
    ]

    async def one(i: int, client: AsyncClient) -> None:
        try:
            job = await client.submit(prompt=f"crowd {i}", seed=i, num_inference_steps=steps)
            job = await client.wait(job["id"])
        except ServerError as error:
            report.refused += error.status in (429, 503)
            report.lost += error.status not in (429, 503)
            return
        except httpx.HTTPError:
            report.lost += 1
            return
        report.done += 1
        found = [image["sha256"] for image in job["images"]]
        report.wrong += found != [expected[i]]

    async def watch_health() -> None:
        async with httpx.AsyncClient(base_url=url) as client:
            while True:
                start = time.perf_counter()
                (await client.get("/api/v1/health")).raise_for_status()
                report.health.append(time.perf_counter() - start)
                await asyncio.sleep(0.01)

    async with contextlib.AsyncExitStack() as stack:
        # Made before, so that making them in this loop is not taken for a delay of the server.
        everybody = [
            await stack.enter_async_context(AsyncClient(url, client_id=f"c{i}"))
            for i in range(clients)
        ]
        watching = asyncio.create_task(watch_health())
        start = time.perf_counter()
        await asyncio.gather(*(one(i, client) for i, client in enumerate(everybody)))
        report.seconds = time.perf_counter() - start
        watching.cancel()
    return report


def main() -> None:
    """Prints one line of figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--step-seconds", type=float, default=0.01)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Process(Path(folder), options.step_seconds)
        report = crowd(server.url, options.clients)
        server.end(signal.SIGTERM)
    print(
        f"{options.clients} clients: {report.done} done, {report.refused} refused, "
        f"{report.wrong} wrong, {report.lost} lost in {report.seconds:.1f} s; "
        f"health p99 {1000 * report.health_p99:.0f} ms of {len(report.health)}"
    )


if __name__ == "__main__":
    main()
