"""The persistent compile cache: what was compiled once is loaded the next time.

What was traced is kept with it, see `dg2_jax.program_cache`.
"""

import ctypes
import functools
import os
import tempfile
from pathlib import Path

import jax

from dg2_jax import program_cache

_COMPILED = "/jax/core/compile/backend_compile_duration"
_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
_FOLDER = "jax_compilation_cache_dir"
_MIN_SECONDS = "jax_persistent_cache_min_compile_time_secs"


def enable() -> str | None:
    """Turns JAX's persistent cache on, and returns its folder; None where nothing is cached.

    `Pipeline.load`, the scripts and the server call it; importing the library does not. The folder
    is the one that JAX is configured with, by `JAX_COMPILATION_CACHE_DIR` or in the program, else
    `~/.cache/dg2_jax/xla`. Set the variable to an empty text to turn the cache off. A folder that
    cannot be written is no error: nothing is then cached.

    Memory freed by compiling or loading is returned to the system where the C library can do so.
    """
    _give_memory_back()
    configured = getattr(jax.config, _FOLDER)
    program_cache.enable(None)
    if not configured and os.environ.get(_VARIABLE) == "":
        return None
    folder = configured or _own_folder()
    if folder is None or not ("://" in folder or _can_be_written(Path(folder))):
        jax.config.update(_FOLDER, None)  # else JAX warns at each compilation
        return None
    jax.config.update(_FOLDER, folder)
    if "://" not in folder:
        program_cache.enable(Path(folder) / program_cache.FOLDER)
    if getattr(jax.config, _MIN_SECONDS) == 1.0:  # JAX's default, and nobody's choice
        jax.config.update(_MIN_SECONDS, 0.1)
    return folder


def _own_folder() -> str | None:
    try:
        return str(Path.home() / ".cache" / "dg2_jax" / "xla")
    except RuntimeError:  # the user has no home
        return None


def _can_be_written(path: Path) -> bool:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False


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
