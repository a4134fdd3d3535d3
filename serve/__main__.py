"""Starts the server: `python -m serve [--port=8000] [--model=demo] …`; settings also as DG2_*."""

import argparse
import asyncio
import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import uvicorn
from filelock import FileLock, Timeout
from pydantic import ValidationError

from dg2_jax.serve import connections, database, disk, observe, words
from dg2_jax.serve.server_settings import ServerSettings

NOTICE_SECONDS = 1.0  # who asks whether the server is ready learns that it stops, before it does


def _settings(arguments: list[str] | None) -> ServerSettings:
    """Flags over environment over defaults."""
    parser = argparse.ArgumentParser(prog="serve", description="The dg2_jax server.")
    for name, field in ServerSettings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, dest=name, default=None, help=field.description)
    given = {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    for name in ("allowed_hosts", "allowed_origins"):
        if name in given:
            given[name] = given[name].split(",")
    try:
        return ServerSettings(**given)
    except ValidationError as error:
        for place in error.errors():
            name = ".".join(map(str, place["loc"])) or "settings"
            print(f"error: {name}: {words.message(place)}", file=sys.stderr)
        sys.exit(2)


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
    settings = _settings(arguments)
    observe.configure_logging()
    from dg2_jax import compile_cache  # JAX takes seconds: settings are checked first
    from dg2_jax.models.model import ModelError  # likewise
    from dg2_jax.serve.app import create_app  # likewise

    lock = FileLock(settings.data / "server.lock")  # the system releases it when the process ends
    _take(lock, settings.data)
    compile_cache.enable()
    try:
        app = create_app(settings)
        app.state.context.models.check()
    except database.UnusableError as error:
        _end(f"database: {error}")
    except disk.ERRORS as error:
        _end(f"data: {disk.reason(error)}: {settings.data}")
    except ModelError as error:
        _end(_of_model(error))
    except ValueError as error:  # a damaged file
        _end(str(error))
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
    engine.worker.on_failure = server.fail
    server.run()
    if server.failure is not None:
        print(_line(_of_model(server.failure)), file=sys.stderr)
    # A compilation cannot be interrupted, and its thread must not keep the process alive.
    sys.stdout.flush()
    os._exit(0 if server.failure is None else 2)


def _take(lock: FileLock, data: Path) -> None:
    """Takes the lock of a data folder, which is made if it is not there."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        _end(f"data: another server uses {data}")
    except OSError as error:
        _end(f"data: {data} cannot be written ({error.strerror}); name another with DG2_DATA")


def _end(reason: str) -> NoReturn:
    """Ends the process before it serves, with one line that says why."""
    print(_line(reason), file=sys.stderr)
    sys.exit(2)


def _of_model(reason: object) -> str:
    return f"model: {reason}; put it right, or name another with DG2_MODEL"


def _line(reason: str) -> str:
    return f"error: {' '.join(reason.split())}"


if __name__ == "__main__":
    main()
