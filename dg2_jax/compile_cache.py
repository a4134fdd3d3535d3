"""The persistent compile cache: what was compiled once is loaded the next time."""

import os
from pathlib import Path

import jax


def enable() -> Path | None:
    """Turns JAX's persistent cache on; called by scripts and the server, never on import.

    The folder is `JAX_COMPILATION_CACHE_DIR` if set (empty turns the cache off), else
    `~/.cache/dg2_jax/xla`. A folder that cannot be written is no error: nothing is then cached.
    """
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
