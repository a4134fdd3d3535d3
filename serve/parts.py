"""What an application and a worker's process have in common, put together from the settings."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dg2_jax.interop import upscaler_files
from dg2_jax.serve.engine import Work
from dg2_jax.serve.files import Files, FolderFiles
from dg2_jax.serve.models import Loader, Models, load_pipeline
from dg2_jax.serve.server_settings import ServerSettings
from dg2_jax.serve.worker import Worker

Upscale = Callable[..., np.ndarray]


def upscale(*args: Any, **kwargs: Any) -> np.ndarray:
    """`dg2_jax.upscale`."""
    from dg2_jax import upscale  # JAX takes seconds to import; the server answers before

    return upscale(*args, **kwargs)


def models(settings: ServerSettings, load: Loader | None = None) -> Models:
    """The models; `load` makes a pipeline from one's name or folder, `Pipeline.load` if None."""
    load = load or functools.partial(
        load_pipeline,
        dtype=settings.quantize,
        loras=settings.loras,
        embeddings=settings.embeddings,
        controlnets=settings.controlnets,
        wildcards=settings.wildcards,
    )
    return Models(
        settings.model, settings.models_dir, load, settings.max_loaded_models, settings.sizes
    )


def worker(settings: ServerSettings, work: Work, models: Models, upscale: Upscale) -> Worker:
    """What computes."""
    return Worker(work, models, upscale, settings.max_batch, settings.warmup, settings.batching)


def find_upscalers(settings: ServerSettings) -> None:
    """Says where the library looks for networks that enlarge pictures."""
    if settings.upscalers_dir is not None:
        os.environ[upscaler_files.FOLDER] = str(settings.upscalers_dir)


def files(settings: ServerSettings) -> Files:
    """Where pictures lie."""
    if settings.pictures is None:
        return FolderFiles(settings.data)
    if "://" not in settings.pictures:
        return FolderFiles(Path(settings.pictures))
    from dg2_jax.serve.object_files import ObjectFiles  # seldom needed, and slow to import

    return ObjectFiles(settings.pictures)
