"""Builds a training set from captioned pictures: checked, cropped, encoded, in shards.

    python -m scripts.prepare --source=my_pictures --model=demo --out=runs/mine
    python -m scripts.prepare --source=tfds:dg2_scenes --data_dir=runs/data --vae=runs/vae \
        --out=runs/encoded

A source is a folder of pictures (name.txt beside name.jpg, one caption per line, metadata.jsonl or
metadata.csv), of WebDataset's .tar files or of .parquet files, or a data set of TFDS. Broken, tiny
and duplicate pictures are left out and named in report.json. Run again after an interruption, it
continues; on a finished folder it checks every shard and rebuilds damaged ones.

Several hosts can share the work through a common --out: each runs the same command with its
own --process_index and the same --process_count.
"""

import json
from pathlib import Path

from absl import flags

from dg2_jax.data import engines, preparation
from dg2_jax.data.recipe import RESIZE_MODES, Recipe
from dg2_jax.data.sources.spec import SourceSpec
from dg2_jax.scripts.command import command

_SOURCE = flags.DEFINE_string(
    "source", None, "A folder, a .tar or .parquet file, or tfds:NAME.", required=True
)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where TFDS has its data sets.")
_IMAGE_KEY = flags.DEFINE_string("image_key", "", "Column of the picture; found if not given.")
_CAPTION_KEY = flags.DEFINE_string("caption_key", "", "Where captions are; found if not given.")
_OUT = flags.DEFINE_string("out", "data/encoded", "The folder to create.")
_MODEL = flags.DEFINE_string(
    "model", "", "A model to train further: its autoencoder and text encoder."
)
_VAE = flags.DEFINE_string(
    "vae", "", "Instead of a model: a run of scripts.train_vae, or a published autoencoder."
)
_TEXT_ENCODER = flags.DEFINE_string("text_encoder", "minilm", "What encodes the captions.")
_MAX_LENGTH = flags.DEFINE_integer("max_length", 64, "Tokens that a caption is cut to.")
_SIZE = flags.DEFINE_integer("size", 0, "Side in pixels; 0 for the model's, or 128.")
_RESIZE_MODE = flags.DEFINE_enum(
    "resize_mode", "crop", RESIZE_MODES, "Crop to squares, or to the nearest of several shapes."
)
_BUCKET_STEP = flags.DEFINE_integer("bucket_step", 32, "The sides of buckets are multiples of it.")
_MIN_SIDE = flags.DEFINE_integer("min_side", 0, "Pictures below are tiny; 0 for half of size.")
_VALIDATION_SHARE = flags.DEFINE_float(
    "validation_share", 0.05, "Of the pictures, where the source has no validation split."
)
_SHARD_PICTURES = flags.DEFINE_integer("shard_pictures", 1024, "Pictures per shard, at most.")
_ENGINE = flags.DEFINE_enum("engine", "local", engines.ENGINES, "Local processes, or Ray.")
_WORKERS = flags.DEFINE_integer("workers", 1, "Processes, or actors of Ray.", lower_bound=1)
_PROCESS_INDEX = flags.DEFINE_integer("process_index", 0, "Of this host, from 0.")
_PROCESS_COUNT = flags.DEFINE_integer("process_count", 1, "Hosts that share the work.")


def main() -> None:
    """Prepares, and prints a summary."""
    recipe = Recipe(
        SourceSpec(_SOURCE.value, _DATA_DIR.value, _IMAGE_KEY.value, _CAPTION_KEY.value),
        Path(_OUT.value),
        model=_MODEL.value,
        vae=_VAE.value,
        text_encoder=_TEXT_ENCODER.value,
        max_length=_MAX_LENGTH.value,
        size=_SIZE.value,
        resize_mode=_RESIZE_MODE.value,
        bucket_step=_BUCKET_STEP.value,
        min_side=_MIN_SIDE.value,
        validation_share=_VALIDATION_SHARE.value,
        shard_pictures=_SHARD_PICTURES.value,
    )
    manifest = preparation.prepare(
        recipe,
        engine=_ENGINE.value,
        workers=_WORKERS.value,
        process_index=_PROCESS_INDEX.value,
        process_count=_PROCESS_COUNT.value,
    )
    if manifest is not None:
        print(json.dumps(preparation.summary(manifest, recipe.out), indent=1))


if __name__ == "__main__":
    command(main)
