"""A client of the server, sync and async, with progress.

>>> from dg2_jax.serve.client import Client                                    # doctest: +SKIP
>>> with Client() as client:                                                   # doctest: +SKIP
...     pictures = client.generate(prompt="a lake at dawn", on_progress=print)

A lost connection does not lose a job: events are read on from the last one that was seen.
"""

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from PIL import Image

URL = "http://127.0.0.1:8000"
FINAL = ("done", "failed", "cancelled")
OnProgress = Callable[[dict[str, Any]], object]


class ServerError(Exception):
    """The server refused, or a job failed.

    Attributes:
        status: HTTP status.
        problem: what it said.
    """

    def __init__(self, status: int, problem: dict[str, Any]):
        super().__init__(problem.get("detail", f"HTTP {status}"))
        self.status = status
        self.problem = problem


class JobCancelledError(ServerError):
    """A job was cancelled before its end.

    Attributes:
        job: as it ended, with the pictures that were finished before.
    """

    def __init__(self, job: dict[str, Any]):
        super().__init__(409, {"detail": f"the job {job['id']} was cancelled"})
        self.job = job


class Event(NamedTuple):
    """One event of a job, see docs/api.md."""

    id: str
    name: str
    data: dict[str, Any]


class _Parser:
    """Lines to events."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def feed(self, line: str) -> Event | None:
        """Takes a line; returns an event when one is complete."""
        if line:
            name, _, value = line.partition(": ")
            self._fields[name] = value
            return None
        fields, self._fields = self._fields, {}
        if "event" not in fields:
            return None
        return Event(fields.get("id", ""), fields["event"], json.loads(fields["data"]))


def _encoded(fields: dict[str, Any]) -> dict[str, Any]:
    """Pictures given as PIL images or paths, as base64."""
    encoded = dict(fields)
    for name, value in fields.items():
        if isinstance(value, Path):
            encoded[name] = base64.b64encode(value.read_bytes()).decode()
        elif isinstance(value, Image.Image):
            out = io.BytesIO()
            value.save(out, "PNG")
            encoded[name] = base64.b64encode(out.getvalue()).decode()
    return encoded


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_error:
        try:
            problem = response.json()
        except ValueError:
            problem = {"detail": response.text}
        raise ServerError(response.status_code, problem)
    return response


def _ended(job: dict[str, Any]) -> dict[str, Any]:
    if job["status"] == "failed":
        raise ServerError(job["error"]["status"], job["error"])
    if job["status"] == "cancelled":
        raise JobCancelledError(job)
    return job


def _options(url: str, key: str | None, client_id: str | None) -> dict[str, Any]:
    headers = {"X-API-Key": key, "X-Client-ID": client_id}
    return {
        "headers": {name: value for name, value in headers.items() if value is not None},
        "timeout": httpx.Timeout(60, read=60),
        "verify": url.startswith("https:"),  # reading certificates takes a while
    }


class Client:
    """See the module.

    Args:
        url: of the server.
        key: the API key, if the server needs one.
        client_id: whose turn in the queue to take; the address by default.
        patience: seconds for which lost connections are tried again.
    """

    def __init__(
        self,
        url: str = URL,
        key: str | None = None,
        client_id: str | None = None,
        patience: float = 60,
    ):
        self.http = httpx.Client(base_url=url, **_options(url, key, client_id))
        self._patience = patience

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def submit(self, kind: str = "txt2img", **fields: Any) -> dict[str, Any]:
        """Queues a job; pictures may be PIL images, paths, base64 or ids. Returns the job.

        Raises:
            ServerError: what the server said.
        """
        json_fields = {"kind": kind, **_encoded(fields)}
        return _checked(self.http.post("/api/v1/jobs", json=json_fields)).json()

    def job(self, job_id: str) -> dict[str, Any]:
        """A job as it is now."""
        return _checked(self.http.get(f"/api/v1/jobs/{job_id}")).json()

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancels a job."""
        return _checked(self.http.delete(f"/api/v1/jobs/{job_id}")).json()

    def events(self, job_id: str) -> Iterator[Event]:
        """A job's events to the final one, over lost connections."""
        last, lost = "0", time.monotonic()
        while True:
            try:
                path = f"/api/v1/jobs/{job_id}/events"
                headers = {"Last-Event-ID": last}
                with self.http.stream("GET", path, headers=headers) as answer:
                    if answer.is_error:
                        answer.read()
                    _checked(answer)
                    parser = _Parser()
                    for line in answer.iter_lines():
                        lost = time.monotonic()
                        event = parser.feed(line)
                        if event is not None:
                            last = event.id
                            yield event
                            if event.name in FINAL:
                                return
            except httpx.TransportError:
                if time.monotonic() - lost > self._patience:
                    raise
            time.sleep(0.5)

    def wait(self, job_id: str, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Waits until a job is done and returns it; `on_progress` gets each `progress`.

        Raises:
            JobCancelledError: it was cancelled.
            ServerError: it failed.
        """
        for event in self.events(job_id):
            if event.name == "progress" and on_progress is not None:
                on_progress(event.data)
        return _ended(self.job(job_id))

    def image(self, entry: dict[str, Any]) -> Image.Image:
        """The pixels of an entry of a job's `images`."""
        return Image.open(io.BytesIO(_checked(self.http.get(entry["url"])).content))

    def generate(self, on_progress: OnProgress | None = None, **fields: Any) -> list[Image.Image]:
        """Submits, waits and fetches.

        Raises:
            JobCancelledError: the job was cancelled.
            ServerError: it was refused, or failed.
        """
        job = self.wait(self.submit(**fields)["id"], on_progress)
        return [self.image(entry) for entry in job["images"]]


class AsyncClient:
    """`Client` with coroutines."""

    def __init__(
        self,
        url: str = URL,
        key: str | None = None,
        client_id: str | None = None,
        patience: float = 60,
    ):
        self.http = httpx.AsyncClient(base_url=url, **_options(url, key, client_id))
        self._patience = patience

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def submit(self, kind: str = "txt2img", **fields: Any) -> dict[str, Any]:
        """See `Client`."""
        json_fields = {"kind": kind, **_encoded(fields)}
        return _checked(await self.http.post("/api/v1/jobs", json=json_fields)).json()

    async def job(self, job_id: str) -> dict[str, Any]:
        """See `Client`."""
        return _checked(await self.http.get(f"/api/v1/jobs/{job_id}")).json()

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """See `Client`."""
        return _checked(await self.http.delete(f"/api/v1/jobs/{job_id}")).json()

    async def events(self, job_id: str) -> AsyncIterator[Event]:
        """See `Client`."""
        last, lost = "0", time.monotonic()
        while True:
            try:
                path = f"/api/v1/jobs/{job_id}/events"
                headers = {"Last-Event-ID": last}
                async with self.http.stream("GET", path, headers=headers) as answer:
                    if answer.is_error:
                        await answer.aread()
                    _checked(answer)
                    parser = _Parser()
                    async for line in answer.aiter_lines():
                        lost = time.monotonic()
                        event = parser.feed(line)
                        if event is not None:
                            last = event.id
                            yield event
                            if event.name in FINAL:
                                return
            except httpx.TransportError:
                if time.monotonic() - lost > self._patience:
                    raise
            await asyncio.sleep(0.5)

    async def wait(self, job_id: str, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """See `Client`."""
        async for event in self.events(job_id):
            if event.name == "progress" and on_progress is not None:
                on_progress(event.data)
        return _ended(await self.job(job_id))

    async def image(self, entry: dict[str, Any]) -> Image.Image:
        """See `Client`."""
        return Image.open(io.BytesIO(_checked(await self.http.get(entry["url"])).content))

    async def generate(
        self, on_progress: OnProgress | None = None, **fields: Any
    ) -> list[Image.Image]:
        """See `Client`."""
        job = await self.wait((await self.submit(**fields))["id"], on_progress)
        return [await self.image(entry) for entry in job["images"]]
