"""Converts a checkpoint of others to a model folder: DiffusionGen2's, or Stable Diffusion.

    dg2 import epoch_0024.pt models/dg2
    dg2 import v1-5-pruned.safetensors models/sd15
    dg2 import owner/name models/xl --prediction_type=v_prediction
    dg2 sample "a lake at dawn" --model=models/sd15

A folder of Stable Diffusion holds all of the model, in the dtype of its source. That of a
DiffusionGen2 checkpoint names its autoencoder and CLIP by their hub ids; without network access,
--vae and --text_encoder name folders that hold them. No torch is needed, and nothing in the files
is executed.
"""

import time

from absl import flags

from dg2_jax.models import dg2_import, sd_import, sources
from dg2_jax.scripts.command import command
from dg2_jax.scripts.loading import define_source, source_options

_VAE = flags.DEFINE_string(
    "vae", None, "Folder or hub id of the autoencoder; by default what the checkpoint names."
)
_TEXT_ENCODER = flags.DEFINE_string(
    "text_encoder", None, "Folder or hub id of the CLIP; by default what the checkpoint names."
)
_SIZE = flags.DEFINE_integer("default_size", 256, "Side of DiffusionGen2's pictures in pixels.")
_SOURCE = define_source()


def run(source: str, out: str) -> None:
    """Converts a source to a model folder and says how long it took."""
    start = time.perf_counter()
    if sources.is_stable_diffusion(source):
        options = source_options(_SOURCE)
        sd_import.convert(source, out, sources.SourceOptions(**options) if options else None)
    else:
        dg2_import.convert(source, out, _VAE.value, _TEXT_ENCODER.value, _SIZE.value)
    print(f"wrote {out} in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    command(run, arguments="SOURCE OUT")
