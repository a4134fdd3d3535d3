"""Converts a published DiffusionGen2 checkpoint to a model folder.

    python -m scripts.import_checkpoint epoch_0024.pt models/dg2
    python -m scripts.sample --model=models/dg2 --prompt="a lake at dawn"

The folder names the autoencoder and the CLIP of the checkpoint by their hub ids. Without network
access, --vae and --text_encoder name folders that hold them. No torch is needed, and nothing in the
file is executed.
"""

import sys
import time

from absl import app, flags

from dg2_jax.models import dg2_import
from scripts.command import parse_flags

_VAE = flags.DEFINE_string(
    "vae", None, "Folder or hub id of the autoencoder; by default what the checkpoint names."
)
_TEXT_ENCODER = flags.DEFINE_string(
    "text_encoder", None, "Folder or hub id of the CLIP; by default what the checkpoint names."
)
_SIZE = flags.DEFINE_integer("default_size", 256, "Side of the pictures in pixels.")


def main(argv: list[str]) -> None:
    """Converts argv[1] to the folder argv[2] and says how long it took."""
    if len(argv) != 3:
        raise app.UsageError("two arguments are needed: FILE.pt OUT_DIR")
    start = time.perf_counter()
    try:
        dg2_import.convert(argv[1], argv[2], _VAE.value, _TEXT_ENCODER.value, _SIZE.value)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {argv[2]} in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
