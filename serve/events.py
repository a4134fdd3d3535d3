"""What happens to jobs, as events that watchers read at their own pace.

A `Channel` belongs to a job and keeps every lasting event, but of those that replace each other
(position, progress, preview) only the newest. Readers remember an id and ask for what came after
it; so a slow reader costs nothing and finds only what still matters, and resuming after a lost
connection is the same as reading on.
"""

import asyncio
import json
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Collection, MutableMapping
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

REPLACED = ("position", "progress", "preview", "waiting")
FINAL = ("done", "failed", "cancelled")
PING_SECONDS = 15.0
SEND_SECONDS = 30.0  # a reader that takes nothing for so long is dropped


class Event(NamedTuple):
    """One thing that happened.

    Attributes:
        id: grows from event to event, also over restarts: about the nanoseconds since 1970.
        name: as in docs/api.md.
        data: plain data.
    """

    id: int
    name: str
    data: dict[str, Any]

    def encode(self) -> bytes:
        """As server-sent event."""
        data = json.dumps(self.data, ensure_ascii=True)
        return f"id: {self.id}\nevent: {self.name}\ndata: {data}\n\n".encode()


class Channel:
    """The events of one job; written by any thread, read by tasks of one event loop."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._wakers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._hung_up = False
        self._lock = threading.Lock()

    @property
    def watched(self) -> bool:
        """Whether anybody reads at this moment."""
        return bool(self._wakers)

    @property
    def last_id(self) -> int:
        """Of the newest event, 0 before there is one."""
        return self._events[-1].id if self._events else 0

    def put(self, name: str, data: dict[str, Any], event_id: int | None = None) -> None:
        """Adds an event; replaces the last one of its name if it is of that sort.

        Args:
            name: of it.
            data: of it.
            event_id: above the last one; by the clock if None.
        """
        with self._lock:
            if event_id is None:
                event_id = max(self.last_id + 1, time.time_ns())
            if name in REPLACED:
                self._events = [event for event in self._events if event.name != name]
            self._events.append(Event(event_id, name, data))
            self._wake()

    def hang_up(self) -> None:
        """Lets readers end without a final event: the server stops."""
        with self._lock:
            self._hung_up = True
            self._wake()

    def _wake(self) -> None:
        for loop, waker in self._wakers:
            loop.call_soon_threadsafe(waker.set)

    def latest(self, name: str) -> dict[str, Any] | None:
        """The data of the newest event of a name."""
        with self._lock:
            values = [event.data for event in self._events if event.name == name]
        return values[-1] if values else None

    async def read(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yields events with ids above `after` until the final one, or until `hang_up`."""
        waker = asyncio.Event()
        entry = (asyncio.get_running_loop(), waker)
        with self._lock:
            self._wakers.add(entry)
        try:
            while True:
                waker.clear()
                with self._lock:
                    news = [event for event in self._events if event.id > after]
                    over = self._hung_up or (self._events and self._events[-1].name in FINAL)
                for event in news:
                    after = event.id
                    yield event
                if over:
                    return
                await waker.wait()
        finally:
            with self._lock:
                self._wakers.discard(entry)


class Hub:
    """The channels of unfinished jobs: of all, or of those that somebody holds."""

    def __init__(self, only_held: bool = False) -> None:
        self._channels: MutableMapping[str, Channel] = (
            weakref.WeakValueDictionary() if only_held else {}
        )
        self._lock = threading.Lock()

    def channel(self, job_id: str) -> Channel:
        """A job's channel, made if missing."""
        with self._lock:
            return self._channels.setdefault(job_id, Channel())

    def get(self, job_id: str) -> Channel | None:
        """A job's channel, if it has one."""
        with self._lock:
            return self._channels.get(job_id)

    def watched(self) -> dict[str, Channel]:
        """The channels that somebody reads at this moment, by their jobs."""
        with self._lock:
            return {key: channel for key, channel in self._channels.items() if channel.watched}

    def hang_up(self, except_of: Collection[str] = ()) -> None:
        """Lets the readers of all channels end, but of those of some jobs."""
        with self._lock:
            for job_id, channel in self._channels.items():
                if job_id not in except_of:
                    channel.hang_up()

    def close(self, job_id: str) -> None:
        """Forgets a channel; those who read it still get its final event."""
        with self._lock:
            self._channels.pop(job_id, None)

    def __len__(self) -> int:
        return len(self._channels)


class EventStream(Response):
    """Server-sent events from an iterator of bytes; ends when the client leaves or hangs."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], ping_seconds: float = PING_SECONDS):
        self.status_code = 200
        self.background = None
        self._events = events
        self._ping_seconds = ping_seconds
        self._sending = asyncio.Lock()
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until the first of: no more events, the client left, the server stops."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        tasks = {
            asyncio.create_task(self._pump(send)),
            asyncio.create_task(self._ping(send)),
            asyncio.create_task(self._wait_for_disconnect(receive)),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._events.aclose()
        for task in done:
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, OSError | TimeoutError):
                raise error

    async def _pump(self, send: Send) -> None:
        async for chunk in self._events:
            await self._send(send, chunk)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _ping(self, send: Send) -> None:
        while True:
            await asyncio.sleep(self._ping_seconds)
            await self._send(send, b": ping\n\n")

    async def _send(self, send: Send, chunk: bytes) -> None:
        message = {"type": "http.response.body", "body": chunk, "more_body": True}
        async with self._sending, asyncio.timeout(SEND_SECONDS):
            await send(message)

    @staticmethod
    async def _wait_for_disconnect(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
