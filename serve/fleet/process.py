"""A worker by itself: `python -m serve.worker`, one a device."""

import os
import signal
import sys
import threading

from prometheus_client import start_http_server

from dg2_jax.serve import command_line, observe, parts
from dg2_jax.serve.disk import Disk
from dg2_jax.serve.fleet.worker_engine import WorkerEngine
from dg2_jax.serve.metrics import Metrics
from dg2_jax.serve.models import Loader
from dg2_jax.serve.server_settings import ServerSettings
from dg2_jax.serve.store import Store


def engine(
    settings: ServerSettings,
    load: Loader | None = None,
    upscale: parts.Upscale = parts.upscale,
) -> WorkerEngine:
    """A worker that is put together, and not yet started.

    Args:
        settings: with a database.
        load: makes a pipeline from a model's name or folder; `Pipeline.load` if None.
        upscale: `dg2_jax.upscale` or something like it.

    Raises:
        UnusableError: the database cannot be used.
        OSError: the data folder cannot be written.
        ModelError: there is no such model.
    """
    from dg2_jax import compile_cache  # JAX takes seconds: settings are checked first

    compile_cache.enable()
    settings.data.mkdir(parents=True, exist_ok=True)
    parts.find_upscalers(settings)
    models = parts.models(settings, load)
    models.check()
    made = WorkerEngine(
        Store(settings.database_url, settings.lease_seconds),
        parts.files(settings),
        Disk(settings.data),
        Metrics(),
        models,
        settings.lease_seconds,
    )
    made.worker = parts.worker(settings, made, models, upscale)
    return made


def main(
    arguments: list[str] | None = None,
    load: Loader | None = None,
    upscale: parts.Upscale = parts.upscale,
) -> None:
    """Computes until SIGTERM or SIGINT, then drains; ends with status 2 if it cannot compute.

    Args:
        arguments: flags, as of `python -m serve`; those of the command line if None.
        load: see `engine`.
        upscale: likewise.
    """
    about = "Computes what servers with --workers=0 on the same PostgreSQL are asked for."
    settings = command_line.settings("serve.worker", about, arguments)
    observe.configure_logging()
    if settings.database is None:
        command_line.end("database: must be given: set DG2_DATABASE")
    with command_line.errors_told(settings):
        made = engine(settings, load, upscale)
        if settings.metrics_port is not None:
            start_http_server(settings.metrics_port, settings.host, made.metrics.registry)
    over = threading.Event()
    assert made.worker is not None
    made.worker.on_failure = lambda _: over.set()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    made.start()
    print(f"worker {made.name}", flush=True)
    over.wait()
    made.drain(settings.drain_seconds)
    if made.unavailable is not None:
        command_line.tell_of_model(made.unavailable)
    # A compilation cannot be interrupted, and its thread must not keep the process alive.
    sys.stdout.flush()
    os._exit(0 if made.unavailable is None else 2)
