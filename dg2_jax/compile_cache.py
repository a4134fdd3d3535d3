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
    `~/.cache/dg2_jax/xla`. A folder that cannot be written is not an error; nothing is cached then.
    Memory freed by compiling or loading is returned to the system where the C library can do so.
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
    """Has memory returned after every compilation; glibc would keep 180 MB of a large UNet's."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or none to be found
        return

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILED:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(listen)
