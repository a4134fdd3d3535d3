"""The A1111 API: how far a client's request is, and stopping it."""

from datetime import UTC, datetime
from typing import Any

from fastapi.concurrency import run_in_threadpool

from dg2_jax.serve.context import Client, Ctx
from dg2_jax.serve.routing import Router
from dg2_jax.serve.waiting import oldest

router = Router()


@router.get("/progress")
async def progress(
    context: Ctx, client: Client, skip_current_image: bool = False
) -> dict[str, Any]:
    """How far this client's oldest request through this interface is; of no other's."""
    watched = oldest(context, client, "a1111")
    view = context.engine.progress(watched.job.id) if watched is not None else None
    shown = watched.shown if watched is not None and not skip_current_image else []
    view = view or {}
    return {
        "progress": view.get("fraction", 0.0),
        "eta_relative": view.get("eta_seconds") or 0.0,
        "state": {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": watched.job.id if watched is not None else "",
            "job_count": watched.job.num_images if watched is not None else 0,
            "job_timestamp": datetime.now(UTC).strftime("%Y%m%d%H%M%S"),
            "job_no": view.get("images_done", 0),
            "sampling_step": view.get("step", 0),
            "sampling_steps": view.get("num_steps", 0),
        },
        "current_image": shown[0] if shown else None,
        "textinfo": None,
    }


@router.post("/interrupt")
async def interrupt(context: Ctx, client: Client) -> dict[str, Any]:
    """Stops this client's oldest request through this interface, which answers with what it has."""
    watched = oldest(context, client, "a1111")
    if watched is not None:
        await run_in_threadpool(context.engine.cancel, watched.job.id)
    return {}


@router.post("/skip")
async def skip(context: Ctx, client: Client) -> None:
    """The same here: a request is one job."""
    await interrupt(context, client)
