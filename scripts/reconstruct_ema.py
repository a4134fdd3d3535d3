"""A model with an average of another width: python -m scripts.reconstruct_ema --sigma_rel=0.07.

Reads --workdir, a finished run of scripts.train whose ema.posthoc has two widths or more, such as
--config.ema.posthoc='(0.05, 0.10)', and writes a new model folder with that average as the weights
to sample from. See `dg2_jax.training.ema.posthoc_weights`.
"""

from pathlib import Path

from absl import flags

from dg2_jax.models import folder as model
from dg2_jax.scripts.command import command
from dg2_jax.training import averages

_WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "The run.")
_SIGMA_REL = flags.DEFINE_float("sigma_rel", 0.10, "The width relative to its end, below 0.28.")
_STEP = flags.DEFINE_integer("step", None, "Where the average ends; by default the last.")
_OUTPUT = flags.DEFINE_string("output", None, "The new folder; by default <workdir>/model_<width>.")


def main() -> None:
    """Reconstructs and saves."""
    workdir, sigma_rel = Path(_WORKDIR.value), _SIGMA_REL.value
    output = Path(_OUTPUT.value or workdir / f"model_{sigma_rel:g}")
    trained = model.load(workdir / "model")
    like = trained.params["ema"]
    average = averages.reconstruct(workdir / "averages", like, sigma_rel, _STEP.value)
    config = {k: v for k, v in trained.config.items() if k not in ("format", "files")}
    own_vae = None if "pretrained" in config["vae"] else trained.autoencoder_params
    model.save(output, config, {"raw": trained.params["raw"], "ema": average}, own_vae)
    print(output)


if __name__ == "__main__":
    command(main)
