"""The application: parts put together, routes included, layers wrapped around."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from dg2_jax.models.adapters import Library
from dg2_jax.models.controlnets import ControlNets
from dg2_jax.serve import openapi, parts, problems
from dg2_jax.serve.access import Access
from dg2_jax.serve.context import Context
from dg2_jax.serve.disk import ERRORS, Disk
from dg2_jax.serve.engine import Engine
from dg2_jax.serve.files import Files
from dg2_jax.serve.fleet.announced import AnnouncedModels
from dg2_jax.serve.gallery import Gallery
from dg2_jax.serve.head import Head
from dg2_jax.serve.local_engine import LocalEngine
from dg2_jax.serve.metrics import Metrics
from dg2_jax.serve.models import Loader, Models
from dg2_jax.serve.observe import Observe
from dg2_jax.serve.routes import (
    a1111,
    bank,
    controlnet,
    images,
    jobs,
    legacy,
    openai,
    page,
    queue,
    styles,
    system,
)  # fmt: skip
from dg2_jax.serve.security import Guard
from dg2_jax.serve.server_settings import ServerSettings
from dg2_jax.serve.store import Store
from dg2_jax.serve.styles import Styles
from dg2_jax.text.wildcards import Wildcards

TIDY_SECONDS = 60.0


async def _tidy(gallery: Gallery) -> None:
    """Erases deleted pictures when their time is over."""
    while True:
        with contextlib.suppress(*ERRORS):
            await run_in_threadpool(gallery.tidy)
        await asyncio.sleep(TIDY_SECONDS)


def _engine(
    settings: ServerSettings,
    store: Store,
    files: Files,
    disk: Disk,
    metrics: Metrics,
    load: Loader | None,
    upscale: parts.Upscale,
) -> tuple[Engine, Models | AnnouncedModels]:
    """Where jobs go, and the models that they may ask for."""
    limits = settings.queue_limit, settings.client_limit
    if not store.is_shared:
        models = parts.models(settings, load)
        local = LocalEngine(store, files, disk, metrics, *limits)
        local.worker = parts.worker(settings, local, models, upscale)
        return local, models
    # Late, since it brings PostgreSQL's driver, which one process on SQLite does not use.
    from dg2_jax.serve.fleet.api_engine import ApiEngine

    lease = settings.lease_seconds
    if settings.workers == 0:
        announced = AnnouncedModels(settings.sizes)
        return ApiEngine(store, disk, metrics, *limits, lease, None, announced), announced
    models = parts.models(settings, load)
    from dg2_jax.serve.fleet.worker_engine import WorkerEngine  # likewise

    own = WorkerEngine(store, files, disk, metrics, models, lease)
    own.worker = parts.worker(settings, own, models, upscale)
    return ApiEngine(store, disk, metrics, *limits, lease, own, None), models


def create_app(
    settings: ServerSettings | None = None,
    load: Loader | None = None,
    upscale: parts.Upscale = parts.upscale,
    prompt_bank: Any = None,
) -> FastAPI:
    """A server; its worker starts and drains with the application's lifespan.

    Args:
        settings: from the environment if None.
        load: makes a pipeline from a model's name or folder; `Pipeline.load` if None.
        upscale: `dg2_jax.upscale` or something like it.
        prompt_bank: a `bank.Bank`; loaded on first use if None.
    """
    settings = settings or ServerSettings()
    adapters = Library(settings.loras, settings.embeddings)
    controlnets = ControlNets(settings.controlnets)
    wildcards = Wildcards(settings.wildcards)
    metrics = Metrics()
    parts.find_upscalers(settings)
    settings.data.mkdir(parents=True, exist_ok=True)
    disk = Disk(settings.data)
    store = disk.insist(lambda: Store(settings.database_url, settings.lease_seconds))
    files = parts.files(settings)
    gallery = Gallery(store, files, disk)
    engine, models = _engine(settings, store, files, disk, metrics, load, upscale)
    context = Context(
        settings,
        store,
        files,
        gallery,
        disk,
        engine,
        models,
        metrics,
        adapters,
        controlnets,
        wildcards,
        Styles(settings.data),
        Access(settings.key),
        _bank=prompt_bank,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(engine.start)
        tidying = asyncio.create_task(_tidy(gallery))
        yield
        tidying.cancel()
        await asyncio.gather(tidying, return_exceptions=True)
        await run_in_threadpool(engine.drain, settings.drain_seconds)
        store.close()

    app = FastAPI(
        title="dg2_jax",
        summary="Pictures from prompts: a queue of jobs over one diffusion model.",
        version="1",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.context = context
    problems.install(app)
    openapi.install(app)
    for module in (jobs, queue, images, bank, styles, system):
        app.include_router(module.router, prefix="/api/v1")
    app.include_router(a1111.router, prefix="/sdapi/v1")
    app.include_router(controlnet.router, prefix="/controlnet")
    app.include_router(openai.router, prefix="/v1")
    if settings.legacy_api:
        app.state.legacy = legacy.Ended()
        app.include_router(legacy.router)
    app.include_router(page.router)
    app.mount("/static", page.PageFiles(directory=page.STATIC, check_dir=False))
    app.add_middleware(Head)
    app.add_middleware(Guard, settings=settings, access=context.access, policy=page.policy())
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Location", "Retry-After"],
        )
    app.add_middleware(Observe, metrics=metrics)
    return app
