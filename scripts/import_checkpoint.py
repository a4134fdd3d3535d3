"""Converts a checkpoint of others to a model folder: DiffusionGen2's, or Stable Diffusion.

    python -m scripts.import_checkpoint epoch_0024.pt models/dg2
    python -m scripts.import_checkpoint v1-5-pruned.safetensors models/sd15
    python -m scripts.import_checkpoint owner/name models/xl --prediction_type=v_prediction
    python -m scripts.sample --model=models/sd15 --prompt="a lake at dawn"

A folder of Stable Diffusion holds all of the model, in the dtype of its source. That of a
DiffusionGen2 checkpoint names its autoencoder and CLIP by their hub ids; without network access,
--vae and --text_encoder name folders that hold them. No torch is needed, and nothing in the files
is executed.
"""

import sys
import time

from absl import app, flags

from dg2_jax.models import dg2_import, sd_import, sources
from dg2_jax.scripts.command import parse_flags
from dg2_jax.scripts.loading import define_source, source_options

_VAE = flags.DEFINE_string(
    "vae", None, "Folder or hub id of the autoencoder; by default what the checkpoint names."
)
_TEXT_ENCODER = flags.DEFINE_string(
    "text_encoder", None, "Folder or hub id of the CLIP; by default what the checkpoint names."
)
_SIZE = flags.DEFINE_integer("default_size", 256, "Side of DiffusionGen2's pictures in pixels.")
_SOURCE = define_source()


def main(argv: list[str]) -> None:
    """Converts argv[1] to the folder argv[2] and says how long it took."""
    if len(argv) != 3:
        raise app.UsageError("two arguments are needed: SOURCE OUT_DIR")
    start = time.perf_counter()
    try:
        if sources.is_stable_diffusion(argv[1]):
            options = source_options(_SOURCE)
            sd_import.convert(
                argv[1], argv[2], sources.SourceOptions(**options) if options else None
            )
        else:
            dg2_import.convert(argv[1], argv[2], _VAE.value, _TEXT_ENCODER.value, _SIZE.value)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {argv[2]} in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
