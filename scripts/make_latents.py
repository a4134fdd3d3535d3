"""Samples latents from a denoiser for training its decoder: see configs/demo_vae_crisp.py.

    python -m scripts.make_latents --model=runs/demo_256/model --out=runs/latents.npy

The captions are new ones of `dg2_scenes`, with seeds of no data set (--seed). Writes an .npy file,
float16 (n, h, w, c), unscaled. Half of the latents use the model's default guidance, half are
unguided.
"""

from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from dg2_jax.data.scenes.captions import captions
from dg2_jax.data.scenes.sampling import draw_scene, picture_seed
from dg2_jax.files import replacing
from dg2_jax.models.model import WEIGHTS
from dg2_jax.pipeline import Pipeline
from dg2_jax.scripts.command import command

_MODEL = flags.DEFINE_string("model", "demo", "An embedded model's name or a model folder.")
_WEIGHTS = flags.DEFINE_enum("weights", "ema", WEIGHTS, "Of those that the model has.")
_COUNT = flags.DEFINE_integer("n", 2048, "Latents.", 1)
_SEED = flags.DEFINE_integer("seed", 1000, "Data-set seed of the scenes and captions.", 0)
_STEPS = flags.DEFINE_integer("num_inference_steps", None, "By default the weights' own.")
_BATCH = flags.DEFINE_integer("batch_size", 16, "Pictures at a time.", 1)
_OUT = flags.DEFINE_string("out", None, "The file to write.", required=True)


def run() -> None:
    """Samples and writes."""
    pipe = Pipeline.load(_MODEL.value)
    scaling, latents = pipe.model.autoencoder_config.scaling, []
    for batch, start in enumerate(tqdm(range(0, _COUNT.value, _BATCH.value), unit=" batches")):
        indices = range(start, min(start + _BATCH.value, _COUNT.value))
        texts = []
        for i in indices:
            seed = picture_seed(i, "train", _SEED.value)
            choices = captions(draw_scene(i, "train", _SEED.value), seed)
            texts.append(choices[i % len(choices)].text)
        result = pipe(
            texts,
            num_inference_steps=_STEPS.value,
            guidance_scale=1.0 if batch % 2 else None,
            seed=[_SEED.value + i for i in indices],
            weights=_WEIGHTS.value,
        )
        latents.append(np.asarray(scaling.unscale(result.latents), np.float16))
    with replacing(Path(_OUT.value)) as partial, partial.open("wb") as file:
        np.save(file, np.concatenate(latents))
    print(_OUT.value)


if __name__ == "__main__":
    command(run)
