"""The application: parts put together, routes included, layers wrapped around."""

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from dg2_jax.interop import realesrgan
from dg2_jax.models.adapters import Library
from dg2_jax.models.controlnets import ControlNets
from dg2_jax.serve import openapi, problems
from dg2_jax.serve.access import Access
from dg2_jax.serve.context import Context
from dg2_jax.serve.disk import ERRORS, Disk
from dg2_jax.serve.files import Files
from dg2_jax.serve.gallery import Gallery
from dg2_jax.serve.head import Head
from dg2_jax.serve.local_engine import LocalEngine
from dg2_jax.serve.metrics import Metrics
from dg2_jax.serve.models import Loader, Models, load_pipeline
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
from dg2_jax.serve.worker import Worker
from dg2_jax.text.wildcards import Wildcards

TIDY_SECONDS = 60.0


def _upscale(*args: Any, **kwargs: Any) -> np.ndarray:
    from dg2_jax import upscale  # JAX takes seconds to import; the server answers before

    return upscale(*args, **kwargs)


async def _tidy(gallery: Gallery) -> None:
    """Erases deleted pictures when their time is over."""
    while True:
        with contextlib.suppress(*ERRORS):
            await run_in_threadpool(gallery.tidy)
        await asyncio.sleep(TIDY_SECONDS)


def create_app(
    settings: ServerSettings | None = None,
    load: Loader | None = None,
    upscale: Callable[..., np.ndarray] = _upscale,
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
    load = load or functools.partial(
        load_pipeline,
        dtype=settings.quantize,
        loras=settings.loras,
        embeddings=settings.embeddings,
        controlnets=settings.controlnets,
        wildcards=settings.wildcards,
    )
    metrics = Metrics()
    if settings.upscalers_dir is not None:
        os.environ[realesrgan.FOLDER] = str(settings.upscalers_dir)  # where the library looks
    settings.data.mkdir(parents=True, exist_ok=True)
    disk = Disk(settings.data)
    store = disk.insist(lambda: Store(settings.database_url))
    files = Files(settings.data)
    gallery = Gallery(store, files, disk)
    models = Models(
        settings.model, settings.models_dir, load, settings.max_loaded_models, settings.sizes
    )
    engine = LocalEngine(store, files, disk, metrics, settings.queue_limit, settings.client_limit)
    engine.worker = Worker(
        engine, models, upscale, settings.max_batch, settings.warmup, settings.batching
    )
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
