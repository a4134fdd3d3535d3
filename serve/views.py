"""Jobs and pictures as the API shows them."""

from datetime import UTC, datetime
from typing import Any

from typing_extensions import TypedDict

from dg2_jax.serve.records import Image, Job


class ImageView(TypedDict):
    """A finished picture."""

    id: str
    job_id: str
    index: int
    url: str
    kind: str
    seed: int | None
    prompt: str
    negative_prompt: str
    width: int
    height: int
    sha256: str
    created_at: str | None
    favourite: bool
    metadata: dict[str, Any]


class ProgressView(TypedDict):
    """How far a job is."""

    step: int
    num_steps: int
    images_done: int
    num_images: int
    fraction: float
    eta_seconds: float | None


class JobView(TypedDict):
    """A job."""

    id: str
    kind: str
    status: str
    client: str
    request: dict[str, Any]
    matched_from: str | None
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    queue_position: int | None
    progress: ProgressView
    images: list[ImageView]
    notes: list[str]
    error: dict[str, Any] | None
    events_url: str


class JobPage(TypedDict):
    """Jobs, and where the next page begins."""

    jobs: list[JobView]
    next: str | None


class QueueView(TypedDict):
    """A client's unfinished jobs: those that run, then the others in their order."""

    paused: bool
    jobs: list[JobView]


class ImagePage(TypedDict):
    """Pictures, and where the next page begins."""

    images: list[ImageView]
    next: str | None


def timestamp(seconds: float | None) -> str | None:
    """Seconds since 1970 as ISO 8601 in UTC with milliseconds."""
    if seconds is None:
        return None
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def image_view(image: Image) -> dict[str, Any]:
    """A finished picture."""
    return {
        **vars(image),
        "url": f"/api/v1/images/{image.id}.png",
        "created_at": timestamp(image.created_at),
    }


def progress_view(
    job: Job, step: int, num_steps: int, running: float, eta_seconds: float | None
) -> dict[str, Any]:
    """How far a job is.

    Args:
        job: the job.
        step: of its running pictures, or of the first of them.
        num_steps: of those.
        running: how many pictures the steps of the running ones amount to.
        eta_seconds: until they, or the first of them, are finished; None where it is not known.
    """
    fraction = (len(job.images) + running) / job.num_images
    return {
        "step": step,
        "num_steps": num_steps,
        "images_done": len(job.images),
        "num_images": job.num_images,
        "fraction": round(min(1.0, fraction), 4),
        "eta_seconds": None if eta_seconds is None else round(eta_seconds, 2),
    }


def job_view(
    job: Job,
    position: int | None = None,
    progress: dict[str, Any] | None = None,
    waiting: str | None = None,
) -> dict[str, Any]:
    """A job; `progress` is that of the running batch, `waiting` why nothing can be stored."""
    if progress is None or job.finished:
        steps = getattr(job.request, "num_inference_steps", 1)
        done = job.status == "done"
        progress = progress_view(job, steps if done else 0, steps, 0.0, 0.0 if done else None)
    return {
        "id": job.id,
        "kind": job.kind,
        "status": "queued" if waiting and job.status == "running" else job.status,
        "client": job.client,
        "request": job.request.fields(),
        "matched_from": job.matched_from,
        "created_at": timestamp(job.created_at),
        "started_at": timestamp(job.started_at),
        "finished_at": timestamp(job.finished_at),
        "queue_position": position if job.status == "queued" else None,
        "progress": progress,
        "images": [image_view(image) for image in job.images],
        "notes": [*job.notes, *([waiting] if waiting else [])],
        "error": job.error,
        "events_url": f"/api/v1/jobs/{job.id}/events",
    }
