"""Servers for tests: in a thread of this process, or as a process of their own.

python -m tests.serve.live --port=8000      # a server with the fake pipeline, to try the page
"""

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import structlog
import uvicorn

from dg2_jax.serve import connections
from dg2_jax.serve.app import create_app
from dg2_jax.serve.server_settings import ServerSettings
from tests.serve.fakes import FakeBank, FakePipeline, fake_upscale

PROCESS_SIZE = 128  # of the pictures of a server with a process of its own
_ROOT = Path(__file__).parents[2]


class LiveServer:
    """A server on loopback with a fake pipeline.

    Attributes:
        pipe: the fake.
        url: where it is.
        client: an HTTP client for it.
    """

    def __init__(
        self,
        data: Any,
        step_seconds: float = 0.0,
        pipe: Any = None,
        load: Any = None,
        **settings: Any,
    ):
        self.pipe = pipe or FakePipeline(step_seconds)
        settings = {"warmup": False, "drain_seconds": 2, **settings}
        self.settings = ServerSettings(port=0, data=data, **settings)
        self.app = create_app(
            self.settings, load or (lambda _: self.pipe), fake_upscale, FakeBank()
        )
        self.context = self.app.state.context
        config = uvicorn.Config(
            self.app,
            port=0,
            http=connections.protocol(self.settings.request_seconds),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run, daemon=True)
        self._thread.start()
        while not self.server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the server did not start")
            time.sleep(0.005)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        headers = {"X-API-Key": self.settings.key} if self.settings.key else {}
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=30)
        while self.context.engine.ready()["state"] == "loading":
            time.sleep(0.005)

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def submit(self, **fields: Any) -> dict[str, Any]:
        """Posts a job (txt2img by default) and returns it."""
        answer = self.client.post("/api/v1/jobs", json={"kind": "txt2img", **fields})
        assert answer.status_code == 202, answer.text
        return answer.json()

    def finished(self, job_id: str, seconds: float = 20) -> dict[str, Any]:
        """Waits for a job's end and returns it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job = self.client.get(f"/api/v1/jobs/{job_id}").json()
            if job["status"] not in ("queued", "running"):
                return job
            time.sleep(0.01)
        raise AssertionError(f"job {job_id} did not end: {job}")


class Process:
    """`tests.serve.live` as a process of its own."""

    def __init__(
        self, data: Path, step_seconds: float = 0.0, errors: Path | None = None, **settings
    ):
        env = {**os.environ, "FAKE_STEP_SECONDS": str(step_seconds), "DG2_WARMUP": "false"}
        env |= {f"DG2_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "tests.serve.live", "--port=0", f"--data={data}"]
        with (errors or Path(os.devnull)).open("w") as standard_error:
            self.process = subprocess.Popen(
                command,
                cwd=_ROOT,
                env=env,
                stdout=subprocess.PIPE,
                stderr=standard_error,
                text=True,
            )
        line = self.process.stdout.readline()
        self.url = re.search(r"http://\S+", line).group()
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def jobs(self) -> list[dict]:
        return self.client.get("/api/v1/jobs", params={"limit": 200}).json()["jobs"]

    def end(self, number: int = signal.SIGKILL) -> int:
        self.client.close()
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


def quiet() -> None:
    """No log lines in tests."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def run_async(coroutine: Coroutine) -> Any:
    """`asyncio.run` in a thread: the main one has a loop already once Playwright was there."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def main() -> None:
    """A server with the fake pipeline; flags and environment as for `python -m serve`."""
    from dg2_jax.serve import app, models
    from dg2_jax.serve.__main__ import main as serve_main

    seconds = float(os.environ.get("FAKE_STEP_SECONDS", "0.05"))
    pipe = FakePipeline(seconds, size=PROCESS_SIZE)
    real = app.create_app
    app.create_app = lambda settings: real(settings, lambda _: pipe, fake_upscale, FakeBank())
    models.load_pipeline = lambda _: pipe
    serve_main(sys.argv[1:])


if __name__ == "__main__":
    main()
