"""Interfaces without job ids wait in the request; a job whose client leaves is cancelled."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from dg2_jax.serve import intake
from dg2_jax.serve.context import Context
from dg2_jax.serve.disk import RETRY_SECONDS
from dg2_jax.serve.events import FINAL, Event
from dg2_jax.serve.problems import ProblemError, stopping
from dg2_jax.serve.records import Job
from dg2_jax.serve.schemas import JobRequest

Interface = Literal["a1111", "openai", "legacy"]  # those whose requests wait
_LOOK_SECONDS = 0.5  # between looks whether the client is still there


class ClientLeftError(ProblemError):
    """Nobody is there to be answered."""

    def __init__(self) -> None:
        super().__init__(499, "the client left")


class Watched:
    """A job that a request waits for.

    Attributes:
        job: the job, updated when it ends.
        client: who waits.
        interface: through which.
        preview: the last preview's data, if there was one.
    """

    def __init__(self, context: Context, job: Job, client: str, interface: Interface):
        self._context = context
        self.job = job
        self.client = client
        self.interface = interface
        self.preview: dict | None = None

    @property
    def shown(self) -> list[str]:
        """The pictures of the last preview as base64; none before it."""
        images = self.preview["images"] if self.preview is not None else ()
        return [image["url"].partition(",")[2] for image in images]

    async def events(self, request: Request | None) -> AsyncGenerator[Event, None]:
        """Yields the job's events to the final one.

        Raises:
            ClientLeftError: the job is then cancelled.
            ProblemError: 507, nothing can be stored, or 503, the server stops; likewise.
        """
        channel = await run_in_threadpool(self._context.engine.channel, self.job.id)
        ended = channel is None
        try:
            if channel is not None:
                async with aclosing(channel.read()) as events:
                    async for event in self._patiently(events, request):
                        if event.name == "preview":
                            self.preview = event.data
                        if event.name == "waiting" and event.data["reason"] is not None:
                            reason = event.data["reason"]
                            raise ProblemError(507, reason, retry_after=RETRY_SECONDS)
                        ended = event.name in FINAL
                        yield event
                if not ended:
                    raise stopping()
        finally:
            self._context.leave(self)
            if not ended:  # who broke off wants no result
                await asyncio.shield(run_in_threadpool(self._context.engine.cancel, self.job.id))
            job = await run_in_threadpool(self._context.store.get, self.job.id)
            self.job = job if job is not None else self.job

    @staticmethod
    async def _patiently(
        events: AsyncGenerator[Event, None], request: Request | None
    ) -> AsyncGenerator[Event, None]:
        looked = time.monotonic()
        while True:
            following = asyncio.ensure_future(anext(events))
            try:
                while not following.done():
                    await asyncio.wait({following}, timeout=_LOOK_SECONDS)
                    if request is not None and time.monotonic() - looked >= _LOOK_SECONDS:
                        looked = time.monotonic()
                        if await request.is_disconnected():
                            raise ClientLeftError
                event = following.result()
            except StopAsyncIteration:
                return
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
            yield event
            if event.name in FINAL:
                return

    async def finish(self, request: Request) -> Job:
        """Waits for the end.

        Raises:
            ProblemError: the job failed, with its status; or the client left.
        """
        async with aclosing(self.events(request)) as events:
            async for _ in events:
                pass
        if self.job.status == "failed":
            error = self.job.error or {}
            raise ProblemError(error.get("status", 500), error.get("detail", "the job failed"))
        return self.job


def oldest(context: Context, client: str, interface: Interface) -> Watched | None:
    """A client's oldest request through one of the interfaces; of no other's."""
    theirs = (w for w in context.watched if (w.interface, w.client) == (interface, client))
    return next(theirs, None)


async def submit(
    context: Context, request: JobRequest, client: str, interface: Interface
) -> Watched:
    """Queues a job to wait for, of a client of one of the interfaces."""

    def work() -> Job:
        return context.engine.submit(intake.make_job(context, request, client))[0]

    watched = Watched(context, await run_in_threadpool(work), client, interface)
    context.enter(watched)
    return watched
