"""Starts the server: `python -m serve [--port=8000] [--model=demo] …`; settings also as DG2_*."""

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import uvicorn
from filelock import FileLock, Timeout

from dg2_jax.serve import command_line, connections, observe

NOTICE_SECONDS = 1.0  # who asks whether the server is ready learns that it stops, before it does


class _Server(uvicorn.Server):
    """Prints where it listens; drains while it still answers, and says so, before it closes.

    Attributes:
        failure: why it ended by itself, if it did.
    """

    def __init__(self, config: uvicorn.Config, drain: Callable[[], None]):
        super().__init__(config)
        self._drain = drain
        self.failure: str | None = None

    def fail(self, reason: str) -> None:
        """Ends the server; may be called from any thread."""
        self.failure = reason
        self.should_exit = True

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        if self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            host = f"[{host}]" if ":" in host else host
            print(f"dg2_jax is at http://{host}:{port}", flush=True)

    async def shutdown(self, sockets: list | None = None) -> None:
        seen = asyncio.sleep(NOTICE_SECONDS)
        await asyncio.gather(asyncio.to_thread(self._drain), seen)
        await super().shutdown(sockets)


def main(arguments: list[str] | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then drains."""
    settings = command_line.settings("serve", "The dg2_jax server.", arguments)
    observe.configure_logging()
    from dg2_jax import compile_cache  # JAX takes seconds: settings are checked first
    from dg2_jax.serve.app import create_app  # likewise

    lock = FileLock(settings.data / "server.lock")  # the system releases it when the process ends
    _take(lock if settings.database is None else None, settings.data)
    compile_cache.enable()
    with command_line.errors_told(settings):
        app = create_app(settings)
        app.state.context.models.check()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=connections.protocol(settings.request_seconds),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=30,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn drains, then raises it once more
    engine = app.state.context.engine
    server = _Server(config, functools.partial(engine.drain, settings.drain_seconds))
    if engine.worker is not None:
        engine.worker.on_failure = server.fail
    server.run()
    if server.failure is not None:
        command_line.tell_of_model(server.failure)
    # A compilation cannot be interrupted, and its thread must not keep the process alive.
    sys.stdout.flush()
    os._exit(0 if server.failure is None else 2)


def _take(lock: FileLock | None, data: Path) -> None:
    """Makes a data folder if it is not there, and takes its lock if it has one."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        if lock is not None:
            lock.acquire(timeout=0)
    except Timeout:
        command_line.end(f"data: another server uses {data}")
    except OSError as error:
        reason = f"{data} cannot be written ({error.strerror}); name another with DG2_DATA"
        command_line.end(f"data: {reason}")


if __name__ == "__main__":
    main()
