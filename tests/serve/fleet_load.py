"""Thousands of jobs through PostgreSQL: an API, two workers with the fake pipeline, some clients.

    python -m tests.serve.fleet_load --jobs=10000    # exits 1 if memory grows by more than 5%

The memory of every process is measured after a fifth of the jobs and at the end. Claims a second
are those of one worker that does nothing else, over a queue of a thousand jobs.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from dg2_jax.serve.fleet.claims import Claims
from dg2_jax.serve.fleet.tasks import Tasks
from dg2_jax.serve.records import Job
from dg2_jax.serve.schemas import stored_request
from dg2_jax.serve.store import Store
from tests.serve import postgres
from tests.serve.live import Process
from tests.serve.live_worker import WorkerProcess, wait_for

LIMIT = 1.05
_CLIENTS = 4
_WAITING = 200  # jobs that clients let wait


@dataclass
class Figures:
    """What was measured.

    Attributes:
        growth: of each process's memory.
        submit_p99: seconds that the answer to a job took.
        jobs_a_second: from the first job to the last picture.
        lost: jobs that are not done.
    """

    growth: dict[str, float]
    submit_p99: float
    jobs_a_second: float
    lost: int

    @property
    def holds(self) -> bool:
        return max(self.growth.values()) <= LIMIT and self.lost == 0


def load(folder: Path, database: str, jobs: int) -> Figures:
    """Runs `jobs` jobs and measures."""
    settings = {"database": database, "queue_limit": 1000, "client_limit": 1000}
    api = Process(folder, workers=0, **settings)
    workers = [WorkerProcess(folder, noted=False, **settings) for _ in range(2)]
    processes = {"api": api.process.pid, "one": workers[0].pid, "two": workers[1].pid}
    try:
        wait_for(lambda: api.client.get("/api/v1/ready").status_code == 200)
        seconds: list[float] = []
        start = time.perf_counter()
        submit_and_wait(api.url, jobs // 5, seconds)
        before = {name: _memory(pid) for name, pid in processes.items()}
        submit_and_wait(api.url, jobs - jobs // 5, seconds)
        elapsed = time.perf_counter() - start
        growth = {name: _memory(pid) / before[name] for name, pid in processes.items()}
        done = sum(1 for job in _history(api.client) if job["status"] == "done")
    finally:
        api.end()
        for worker in workers:
            worker.end()
    p99 = sorted(seconds)[int(0.99 * len(seconds))]
    return Figures(growth, p99, jobs / elapsed, jobs - done)


def submit_and_wait(url: str, count: int, seconds: list[float]) -> None:
    """Submits jobs from some clients, never too many at a time, and waits until all are done."""
    with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(_CLIENTS) as pool:

        def ask(number: int) -> None:
            while number % 20 == 0 and _waiting(client) > _WAITING:
                time.sleep(0.05)
            body = {"kind": "txt2img", "prompt": f"p{number}", "num_inference_steps": 1}
            headers = {"X-Client-ID": f"client-{number % _CLIENTS}"}
            begun = time.perf_counter()
            client.post("/api/v1/jobs", json=body, headers=headers).raise_for_status()
            seconds.append(time.perf_counter() - begun)

        list(pool.map(ask, range(count)))
        wait_for(lambda: _unfinished(client) == 0, 600)


def _waiting(client: httpx.Client) -> int:
    return client.get("/api/v1/ready").json()["queue"]["length"]


def _unfinished(client: httpx.Client) -> int:
    pages = (
        client.get("/api/v1/jobs", params={"limit": 1, "status": status}).json()["jobs"]
        for status in ("queued", "running")
    )
    return sum(map(len, pages))


def _history(client: httpx.Client) -> Iterator[dict]:
    before = None
    while True:
        params = {"limit": 200, **({"before": before} if before else {})}
        page = client.get("/api/v1/jobs", params=params).json()
        yield from page["jobs"]
        before = page["next"]
        if before is None:
            return


def _memory(pid: int) -> int:
    return psutil.Process(pid).memory_info().rss


def claims_a_second(database: str, jobs: int = 1000) -> float:
    """How many pictures one worker takes a second that does nothing else."""
    store = Store(database)
    try:
        request = stored_request("txt2img", {"seed": 0, "model": "demo"})
        for number in range(jobs):
            client, job_id = f"client{number % 10}", f"job{number:06d}"
            job = Job(job_id, "txt2img", "queued", client, request, "", 1, time.time())
            Tasks(store).add(job, lambda *_: None)
        claims = Claims(store, "worker", 60.0)
        start = time.perf_counter()
        while claims.take(["demo"], (1,), True) is not None:
            pass
        return jobs / (time.perf_counter() - start)
    finally:
        store.close()


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=10_000)
    options = parser.parse_args()
    with postgres.running() as server, tempfile.TemporaryDirectory() as folder:
        rate = claims_a_second(server.new_database())
        figures = load(Path(folder), server.new_database(), options.jobs)
    growth = ", ".join(f"{name} {100 * (g - 1):+.1f}%" for name, g in figures.growth.items())
    print(
        f"{options.jobs} jobs, {figures.jobs_a_second:.0f}/s, {figures.lost} lost; submit p99 "
        f"{1000 * figures.submit_p99:.0f} ms; {rate:.0f} claims/s; memory {growth}: "
        f"{'holds' if figures.holds else 'DOES NOT HOLD'}"
    )
    sys.exit(not figures.holds)


if __name__ == "__main__":
    main()
