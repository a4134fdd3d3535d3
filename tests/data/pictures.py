"""Folders of captioned pictures, and data sets made of them by tiny networks."""

import numpy as np
from PIL import Image

from dg2_jax.data import preparation
from dg2_jax.data.recipe import Recipe
from dg2_jax.data.sources.spec import SourceSpec
from tests.interop import published


def pixels(seed, width, height):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_picture(path, seed, width=20, height=20, captions=("a lake",), **options):
    """A picture of noise, with its captions beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, width, height)).save(path, **options)
    if captions:
        path.with_suffix(".txt").write_text("\n".join(captions) + "\n", "utf-8")


def write_folder(root, count):
    """So many pictures of 20 x 16 with two captions each."""
    for i in range(count):
        write_picture(root / f"{i:03d}.png", i, 20, 16, ("a lake", "a volcano at dawn"))
    return root


def recipe(source, out, clip, **changes):
    """Pictures of 16 pixels, encoded by the published tiny autoencoder and CLIP."""
    values = {
        "vae": str(published.VAE),
        "text_encoder": str(clip),
        "max_length": published.CLIP_LENGTH,
        "size": 16,
        "validation_share": 0.2,
        "shard_pictures": 8,
    }
    return Recipe(SourceSpec(str(source)), out, **(values | changes))


def prepare(*args, options=None, **changes):
    """`preparation.prepare` of `recipe`."""
    return preparation.prepare(recipe(*args, **changes), progress=False, **(options or {}))
