"""Converts Stable Diffusion to a model folder (see `dg2_jax.models.folder`)."""

from collections.abc import Callable
from pathlib import Path

from flax import nnx

from dg2_jax.interop.stable_diffusion.folder import write_texts
from dg2_jax.interop.stable_diffusion.model import build
from dg2_jax.models import folder as folders
from dg2_jax.models import sources
from dg2_jax.models.sources import SourceOptions


def convert(
    source: str | Path,
    folder: str | Path,
    options: SourceOptions | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes the model folder, its weights in the dtype of the source; config.json last.

    What `options` say is in config.json afterwards.

    Args:
        source: as of `sources.load`.
        folder: created if missing.
        options: as of `sources.load`.
        on_progress: as of `sources.load`.

    Raises:
        FileNotFoundError, ValueError: as `sources.load`; nothing is then written.
    """
    options = sources.options_of(source, options)
    parts = sources.read_parts(source, options)
    described = sources.describe(parts, options)
    loaded = build(str(source), parts, on_progress=on_progress)
    names = write_texts(Path(folder), parts.texts)
    described["text_encoder"]["encoders"] = names
    vae = nnx.to_pure_dict(nnx.state(loaded.vae))
    folders.save(folder, described, {"ema": loaded.params}, vae, dtype=None)
