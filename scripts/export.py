"""Writes a model folder: of any checkpoint of a run, or of a model with adapters merged.

    python -m scripts.export --workdir=runs/demo --data_dir=runs/encoded --out=models/mine
    python -m scripts.export --model=demo --lora=runs/lora/lora.safetensors:0.8 --out=models/mine
    python -m scripts.export --model=demo --autoencoder=runs/decoder --out=models/demo_256

`dg2_jax.Pipeline.load` opens the folder. Its README.md is a model card for Hugging Face's hub, to
which the folder can be uploaded once you have added what it was trained on.
"""

from pathlib import Path

import jax.numpy as jnp
from absl import flags

from dg2_jax.data import encoding
from dg2_jax.interop.diffusers_vae import STABLE_DIFFUSION
from dg2_jax.scripts.command import command
from dg2_jax.scripts.loading import define_lora, load
from dg2_jax.training import export

_WORKDIR = flags.DEFINE_string("workdir", None, "A run of scripts.train.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data/encoded", "What the run was trained on.")
_STEP = flags.DEFINE_integer("step", None, "Of the checkpoint; the newest if not given.")
_VAE = flags.DEFINE_string("vae", STABLE_DIFFUSION, "Autoencoder of latent shards.")
_TEXT_ENCODER = flags.DEFINE_string("text_encoder", "clip", "Text encoder of latent shards.")
_MODEL = flags.DEFINE_string("model", None, "Instead of a run: a model's name or folder.")
_LORA = define_lora()
_AUTOENCODER = flags.DEFINE_string(
    "autoencoder", None, "For a --model: a run of scripts.train_vae with the same latents."
)
_DTYPE = flags.DEFINE_enum(
    "dtype", "bfloat16", ("bfloat16", "float32"), "Of the stored weights of a --model."
)
_OUT = flags.DEFINE_string("out", None, "The folder to write.", required=True)


def run() -> None:
    """Exports and says where."""
    folder = Path(_OUT.value)
    workdir, name = _WORKDIR.value, _MODEL.value
    if workdir is not None and name is None:
        if _LORA.value:
            raise ValueError("lora goes with model; a run's own adapters are merged by themselves")
        if _AUTOENCODER.value:
            raise ValueError("autoencoder goes with model; a run has that of its data")
        step = export.export_checkpoint(
            workdir, _DATA_DIR.value, folder, _STEP.value, _VAE.value, _TEXT_ENCODER.value
        )
        source = f"step {step} of the run {Path(workdir).name}"
    elif name is not None and workdir is None:
        merged = load(name, _LORA.value).model
        if _AUTOENCODER.value:
            merged = export.with_autoencoder(merged, encoding.load_autoencoder(_AUTOENCODER.value))
        export.export_model(folder, merged, jnp.dtype(_DTYPE.value))
        source = "".join([name, *(f" with {Path(given).name}" for given in _LORA.value or ())])
    else:
        raise ValueError("workdir or model must be given, and not both")
    export.write_card(folder, source)
    print(folder)


if __name__ == "__main__":
    command(run)
