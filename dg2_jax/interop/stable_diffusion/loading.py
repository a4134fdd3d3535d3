"""Opens a model from a folder, from the hub, or from one file."""

import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from dg2_jax.interop import hf_folder
from dg2_jax.interop.stable_diffusion.folder import files_to_fetch, read_folder
from dg2_jax.interop.stable_diffusion.model import OnProgress, StableDiffusion, build
from dg2_jax.interop.stable_diffusion.parts import Parts
from dg2_jax.interop.stable_diffusion.single_file import FileOptions, read_single_file


def load(
    source: str | os.PathLike,
    *,
    variant: str | None = None,
    prediction_type: str | None = None,
    zero_terminal_snr: bool | None = None,
    file_options: FileOptions | None = None,
    dtype: Any = None,
    compute_dtype: Any = jnp.float32,
    on_progress: OnProgress | None = None,
) -> StableDiffusion:
    """Loads a model.

    Weights are read tensor by tensor from memory-mapped files, so that little more memory is taken
    than they need.

    Args:
        source: a diffusers folder; the hub id of one, "owner/name", which is fetched once; or one
            `.safetensors` or `.ckpt` file under Stable Diffusion's original names.
        variant: of a folder's weights, such as "fp16": the UNet's, and of other parts where they
            have it; None is the plain one, or what there is.
        prediction_type: what the UNet predicts; None: as the scheduler's configuration says, and
            epsilon for a file, which cannot tell.
        zero_terminal_snr: whether the noise schedule ends in pure noise; None as above.
        file_options: what else a single file cannot tell.
        dtype: of UNet and text encoders' parameters; None keeps that of the files.
        compute_dtype: in which the UNet computes.
        on_progress: called with the bytes read so far and in all.

    Raises:
        FileNotFoundError: there is no such model, or a part of it is missing.
        CheckpointError, ValueError: a file is damaged or hostile, or of another kind of model; the
            message names it and why.
    """
    parts = read_parts(
        source,
        variant=variant,
        prediction_type=prediction_type,
        zero_terminal_snr=zero_terminal_snr,
        file_options=file_options,
    )
    return build(
        str(source),
        parts,
        dtype=dtype,
        compute_dtype=compute_dtype,
        on_progress=on_progress,
    )


def read_parts(
    source: str | os.PathLike,
    *,
    variant: str | None = None,
    prediction_type: str | None = None,
    zero_terminal_snr: bool | None = None,
    file_options: FileOptions | None = None,
) -> Parts:
    """What a model consists of; of its weights nothing but names and shapes is read yet.

    Arguments and errors are those of `load`.
    """
    path = Path(source).expanduser()
    options: dict[str, Any] = {
        "prediction_type": prediction_type,
        "zero_terminal_snr": zero_terminal_snr,
    }
    if path.is_file():
        return read_single_file(path, file_options or FileOptions(), **options)
    folder = path if path.is_dir() else _fetched(os.fspath(source), variant)
    return read_folder(folder, variant=variant, **options)


def _fetched(name: str, variant: str | None) -> Path:
    """The folder of a model of the hub, fetched unless it was before."""
    if Path(name).suffix in (".safetensors", ".ckpt"):
        raise FileNotFoundError(f"there is no file {name}")
    name = hf_folder.lasting_name(name)
    import httpx
    from huggingface_hub import HfApi, snapshot_download

    try:
        files = files_to_fetch(HfApi().list_repo_files(name), variant)
        return Path(snapshot_download(name, allow_patterns=files))
    except (OSError, ValueError, httpx.HTTPError) as error:
        try:
            return Path(snapshot_download(name, local_files_only=True))
        except (OSError, ValueError):
            raise FileNotFoundError(
                f"the model {name!r} is not on this machine and could not be fetched "
                f"({type(error).__name__}). Put its folder on this machine and name that"
            ) from error
