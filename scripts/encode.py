"""Encodes `dg2_scenes` for training.

    python -m scripts.encode --vae_dir runs/vae --data_dir data --output_dir data/encoded

Run again on a finished folder, it does nothing; an interrupted run starts afresh.
"""

import json
import sys

from absl import app, flags, logging

from dg2_jax import compile_cache
from dg2_jax.data import encoding
from dg2_jax.data.scenes import attributes, builder
from dg2_jax.text import load_text_encoder

_VAE_DIR = flags.DEFINE_string("vae_dir", "runs/vae", "Holds vae.json and vae.safetensors.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where scripts.make_scenes built the pictures.")
_DATASET = flags.DEFINE_string("dataset", "full", "Configuration of dg2_scenes: full or tiny.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "data/encoded", "The folder to make.")
_TEXT_ENCODER = flags.DEFINE_string("text_encoder", "minilm", "What encodes the captions.")
_MAX_LENGTH = flags.DEFINE_integer("max_length", 64, "Tokens that a caption is cut to.")


def main(argv: list[str]) -> None:
    """Parses the flags and encodes."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # the libraries' own notes would break the bar
    compile_cache.enable()
    try:
        splits = ("train", "validation")  # what training reads
        manifest = encoding.encode_dataset(
            {s: builder.load(s, _DATA_DIR.value, _DATASET.value) for s in splits},
            {
                "subject": attributes.SUBJECTS,
                "time": attributes.TIMES,
                "weather": attributes.WEATHERS,
                "season": attributes.SEASONS,
            },
            _VAE_DIR.value,
            load_text_encoder(_TEXT_ENCODER.value, _MAX_LENGTH.value),
            _OUTPUT_DIR.value,
            dataset=f"dg2_scenes/{_DATASET.value}/{builder.VERSION}",
        )
    except (ValueError, OSError) as error:
        logging.error("%s", error)
        sys.exit(1)
    print(json.dumps({k: v for k, v in manifest.items() if k != "attributes"}, indent=1))


if __name__ == "__main__":
    app.run(main)
