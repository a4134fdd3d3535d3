"""Thousands of jobs on the fake pipeline: memory must not grow, nor descriptors, tasks or channels.

    python -m tests.serve.soak --jobs=5000             # exits 1 if memory grows by more than 5%
    python -m tests.serve.soak --jobs=5000 --leak      # a seeded leak: the same check must fail

Jobs of all kinds, some watched, some cancelled, some failing; the history is kept, as in life.
"""

import argparse
import gc
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.serve.fakes import FakePipeline
from tests.serve.live import LiveServer, quiet

LIMIT = 1.05
_PROMPTS = ("a lake", "a summit", "!value", "a desert at noon", "!oom")


@dataclass
class Figures:
    """What was measured after warm-up and at the end."""

    memory_before: int
    memory_after: int
    files_before: int
    files_after: int
    open_jobs: int
    channels: int
    jobs_a_second: float

    @property
    def growth(self) -> float:
        return self.memory_after / self.memory_before

    @property
    def holds(self) -> bool:
        return (
            self.growth <= LIMIT
            and self.files_after <= self.files_before + 3
            and self.open_jobs == self.channels == 0
        )


class LeakyPipeline(FakePipeline):
    """Keeps a megabyte for each."""

    def remember(self, call):
        self.kept = [*getattr(self, "kept", []), bytearray(1 << 20)]


class ForgetfulPipeline(FakePipeline):
    """Does not keep its calls, which tests look at and a soak would count as a leak."""

    def remember(self, call):
        pass


def soak(folder: Path, jobs: int, leak: bool = False, seed: int = 0) -> Figures:
    """Runs `jobs` jobs, a fifth of them as warm-up, and measures."""
    pipe = LeakyPipeline() if leak else ForgetfulPipeline()
    server = LiveServer(folder, pipe=pipe, queue_limit=1000, client_limit=1000)
    process = psutil.Process()
    choose = random.Random(seed)

    def measure() -> tuple[int, int]:
        gc.collect()
        return process.memory_info().rss, process.num_fds()

    def run(count: int) -> None:
        for start in range(0, count, 20):
            ids = [_one(server, choose) for _ in range(min(20, count - start))]
            for job_id in ids:
                server.finished(job_id)

    run(jobs // 5)
    before = measure()
    begin = time.monotonic()
    run(jobs - jobs // 5)
    elapsed = time.monotonic() - begin
    after = measure()
    engine = server.context.engine
    figures = Figures(
        before[0],
        after[0],
        before[1],
        after[1],
        engine.status()["open"],
        len(engine._hub),
        (jobs - jobs // 5) / elapsed,
    )
    server.stop()
    return figures


def _one(server: LiveServer, choose: random.Random) -> str:
    job = server.submit(
        prompt=choose.choice(_PROMPTS),
        num_images=choose.choice((1, 1, 2)),
        num_inference_steps=choose.choice((1, 3)),
        preview_every=1,
    )
    fate = choose.random()
    if fate < 0.1:
        server.client.delete(f"/api/v1/jobs/{job['id']}")
    elif fate < 0.2:
        with server.client.stream("GET", f"/api/v1/jobs/{job['id']}/events") as answer:
            next(answer.iter_lines())  # and away
    return job["id"]


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--leak", action="store_true")
    options = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(Path(folder), options.jobs, options.leak)
    print(
        f"{options.jobs} jobs, {figures.jobs_a_second:.0f}/s: memory "
        f"{figures.memory_before >> 20} -> {figures.memory_after >> 20} MiB "
        f"({100 * (figures.growth - 1):+.1f}%), descriptors {figures.files_before} -> "
        f"{figures.files_after}, open jobs {figures.open_jobs}, channels {figures.channels}: "
        f"{'holds' if figures.holds else 'DOES NOT HOLD'}"
    )
    sys.exit(not figures.holds)


if __name__ == "__main__":
    main()
