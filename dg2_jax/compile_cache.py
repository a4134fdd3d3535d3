"""The persistent compile cache: what was compiled once is loaded the next time."""

import ctypes
import functools
import os
from pathlib import Path

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"


def enable() -> Path | None:
    """Turns JAX's persistent cache on; called by scripts and the server, never on import.

    The folder is `JAX_COMPILATION_CACHE_DIR` if set (empty turns the cache off), else
    `~/.cache/dg2_jax/xla`. A folder that cannot be written is no error: nothing is then cached.
    Where the C library can, memory that a compilation or a loading has freed is given back.
    """
    _give_memory_back()
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder == "":
        return None
    path = Path(folder) if folder else Path.home() / ".cache" / "dg2_jax" / "xla"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return path


@functools.cache
def _give_memory_back() -> None:
    """After every compilation from now on: of a large UNet's program glibc would keep 180 MB."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or none to be found
        return

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILED:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(listen)
