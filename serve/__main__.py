"""Starts the server: `python -m serve [--port=8000] [--model=demo] …`; settings also as DG2_*."""

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Callable

import uvicorn
from filelock import FileLock, Timeout

from dg2_jax.serve import command_line, observe

NOTICE_SECONDS = 1.0  # who asks whether the server is ready learns that it stops, before it does


class _Server(uvicorn.Server):
    """Prints where it listens; drains while it still answers, and says so, before it closes."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], None]):
        super().__init__(config)
        self._drain = drain

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

    settings.data.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.data / "server.lock")  # the system releases it when the process ends
    try:
        if settings.database is None:
            lock.acquire(timeout=0)
    except Timeout:
        print(f"error: data: another server uses {settings.data}", file=sys.stderr)
        sys.exit(2)
    compile_cache.enable()
    with command_line.errors_told(settings):
        app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=30,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn drains, then raises it once more
    drain = functools.partial(app.state.context.engine.drain, settings.drain_seconds)
    _Server(config, drain).run()
    # A compilation cannot be interrupted, and its thread must not keep the process alive.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
