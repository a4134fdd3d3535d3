"""What one job costs a fleet: writes of PostgreSQL, its storage, and events for who reads them.

    python -m tests.serve.fleet_costs --jobs=500

An API, a worker with the fake pipeline and PostgreSQL, on this machine. The first part is of jobs
of one picture that nobody watches; the second of one long job and its readers.
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg

from tests.serve import postgres
from tests.serve.fleet_client import submit
from tests.serve.fleet_load import submit_and_wait
from tests.serve.live import Process
from tests.serve.live_worker import WorkerProcess, wait_for

_STEP_SECONDS = 0.05


class Counters(NamedTuple):
    """What PostgreSQL has counted of a database: transactions, rows, bytes of log and of tables."""

    transactions: int
    rows: int
    log: int
    size: int

    def since(self, before: "Counters", per: float) -> "Counters":
        """What was added, per something."""
        return Counters(*((now - then) / per for now, then in zip(self, before, strict=True)))


def counters(database: str) -> Counters:
    """They, of now; processes tell them a second after they have become idle, or later."""
    query = """
        SELECT xact_commit, tup_inserted + tup_updated + tup_deleted,
               pg_current_wal_lsn() - '0/0', pg_database_size(current_database())
        FROM pg_stat_database WHERE datname = current_database()
    """
    time.sleep(2)
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        return Counters(*map(int, connection.execute(query).fetchone()))


async def events_a_second(url: str, job_id: str, readers: int, seconds: float) -> float:
    """Events that readers of a job get in all."""
    count = 0

    async def read(client: httpx.AsyncClient) -> None:
        nonlocal count
        async with client.stream("GET", f"/api/v1/jobs/{job_id}/events") as answer:
            async for line in answer.aiter_lines():
                count += line.startswith("event: ")

    limits = httpx.Limits(max_connections=readers)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        reading = [asyncio.create_task(read(client)) for _ in range(readers)]
        await asyncio.sleep(2)
        before, begun = count, time.perf_counter()
        await asyncio.sleep(seconds)
        rate = (count - before) / (time.perf_counter() - begun)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    return rate


@contextlib.contextmanager
def fleet(folder: Path, database: str, step_seconds: float):
    """An API and a worker."""
    settings = {"database": database, "queue_limit": 1000, "client_limit": 1000}
    api = Process(folder, workers=0, **settings)
    worker = WorkerProcess(folder, step_seconds=step_seconds, noted=False, **settings)
    try:
        wait_for(lambda: api.client.get("/api/v1/ready").status_code == 200)
        yield api
    finally:
        worker.end()
        api.end()


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with postgres.running() as server, tempfile.TemporaryDirectory() as folder:
        database = server.new_database()
        with fleet(Path(folder), database, 0.0) as api:
            before = counters(database)
            submit_and_wait(api.url, options.jobs, [])
            each = counters(database).since(before, options.jobs)
        print(
            f"a job of one picture: {each.transactions:.1f} transactions, {each.rows:.1f} rows, "
            f"{each.log / 1e3:.1f} kB of log, {each.size / 1e3:.1f} kB kept"
        )
        with fleet(Path(folder), database, _STEP_SECONDS) as api:
            job_id = submit(api.client, prompt="long", num_inference_steps=1000)
            for readers in (0, 1, 100):
                before, begun = counters(database), time.perf_counter()
                reading = events_a_second(api.url, job_id, readers, options.seconds)
                events = asyncio.run(reading)
                spent = counters(database).since(before, time.perf_counter() - begun)
                print(
                    f"{readers} readers of a job at {1 / _STEP_SECONDS:.0f} steps a second: "
                    f"{events:.0f} events a second in all, {spent.transactions:.1f} transactions "
                    f"and {spent.rows:.1f} rows a second"
                )


if __name__ == "__main__":
    main()
