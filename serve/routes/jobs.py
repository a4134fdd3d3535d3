"""Jobs: submit, look, watch, cancel."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import Body, Header, Query, Response
from fastapi.concurrency import run_in_threadpool

from dg2_jax.controls.declaration import KINDS
from dg2_jax.serve import intake
from dg2_jax.serve.context import Client, Context, Ctx
from dg2_jax.serve.events import Event, EventStream
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.records import QUEUED, Job
from dg2_jax.serve.routing import Router
from dg2_jax.serve.schemas import EXAMPLES, JobRequest
from dg2_jax.serve.views import JobPage, JobView, job_view

router = Router(prefix="/jobs", tags=["jobs"])

JobKind = Literal[KINDS]  # type: ignore[valid-type]
Status = Literal["queued", "running", "done", "failed", "cancelled"]
Limit = Annotated[int, Query(ge=1, le=200)]
Before = Annotated[str | None, Query(max_length=64, description="`next` of the page before")]
Search = Annotated[str | None, Query(max_length=200, description="words of the prompt")]


def view(context: Context, job: Job) -> dict[str, Any]:
    """A job with what only the engine knows."""
    if job.finished:
        return job_view(job)
    engine = context.engine
    position = engine.position(job.id) if job.status == QUEUED else None
    return job_view(job, position, engine.progress(job.id), context.disk.trouble)


def find(context: Context, job_id: str) -> Job:
    """A job by id.

    Raises:
        ProblemError: 404.
    """
    job = context.store.get(job_id)
    if job is None:
        raise ProblemError(404, f"there is no job {job_id[:80]}")
    return job


_REPEATED: dict[int | str, dict[str, Any]] = {
    200: {"description": "the first job with this Idempotency-Key", "model": JobView}
}


@router.post("", status_code=202, responses=_REPEATED)
def submit_job(
    context: Ctx,
    client: Client,
    response: Response,
    request: Annotated[JobRequest, Body(openapi_examples=EXAMPLES)],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=128)] = None,
) -> JobView:
    """Queues a job; it is stored when this returns."""
    job = intake.make_job(context, request, client, idempotency_key)
    job, new = context.engine.submit(job)
    if not new:
        response.status_code = 200
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return view(context, job)  # type: ignore[return-value]


@router.get("")
def list_jobs(
    context: Ctx,
    limit: Limit = 50,
    before: Before = None,
    q: Search = None,
    status: Status | None = None,
    kind: JobKind | None = None,
    client: Annotated[str | None, Query(max_length=64)] = None,
) -> JobPage:
    """Jobs, newest first."""
    jobs = context.store.jobs(limit + 1, before, q, status=status, kind=kind, client=client)
    after = jobs[limit - 1].id if len(jobs) > limit else None
    return {"jobs": [view(context, job) for job in jobs[:limit]], "next": after}  # type: ignore


@router.get("/{job_id}")
def get_job(context: Ctx, job_id: str) -> JobView:
    """One job."""
    return view(context, find(context, job_id))  # type: ignore[return-value]


@router.delete("/{job_id}", responses={204: {"description": "forgotten"}})
def cancel_job(context: Ctx, job_id: str, forget: bool = False) -> JobView:
    """Cancels a job that is not finished; with `forget` deletes it and its pictures."""
    find(context, job_id)
    context.engine.cancel(job_id)
    if forget:
        context.gallery.forget(job_id)
        return Response(status_code=204)  # type: ignore[return-value]
    return view(context, find(context, job_id))  # type: ignore[return-value]


@router.get("/{job_id}/events", response_class=EventStream, status_code=200)
async def watch_job(
    context: Ctx,
    job_id: str,
    after: Annotated[str | None, Query(max_length=32)] = None,
    last_event_id: Annotated[str | None, Header(max_length=32)] = None,
) -> EventStream:
    """What happens to a job, as server-sent events."""
    # First: a job without one is finished.
    channel = await run_in_threadpool(context.engine.channel, job_id)
    job = await run_in_threadpool(find, context, job_id)
    seen = _number(last_event_id) or _number(after)

    async def stream() -> AsyncGenerator[bytes, None]:
        yield b"retry: 1000\n\n"
        if channel is not None:
            async for event in channel.read(seen):
                yield event.encode()
        else:
            finished = int((job.finished_at or 0) * 1e9)
            yield Event(max(seen + 1, finished), job.status, job_view(job)).encode()

    return EventStream(stream())


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else 0
