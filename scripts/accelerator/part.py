"""One part of the check, in this process: python -m scripts.accelerator.part PART FILE.

scripts/check_accelerator.py starts it. FILE gets a line of JSON for each case.
"""

import importlib
import os
from pathlib import Path

import jax
from absl import flags

from dg2_jax.scripts.accelerator.options import MODELS, Options
from dg2_jax.scripts.accelerator.record import Record
from dg2_jax.scripts.command import command

_MODELS = flags.DEFINE_list("models", [*MODELS], "Configurations to measure.")
_QUICK = flags.DEFINE_bool("quick", False, "Small sizes and single runs.")
_SECONDS = flags.DEFINE_float("seconds", 480.0, "No case begins that would end later.", 0.0)


def run(name: str, file: str) -> None:
    """Runs a part."""
    # Parity needs the CPU as well, whatever other platforms are chosen.
    chosen = os.environ.get("JAX_PLATFORMS", "")
    if chosen and "cpu" not in chosen.split(","):
        jax.config.update("jax_platforms", f"{chosen},cpu")
    record = Record(Path(file), _SECONDS.value)
    # One part does not need what others import.
    part = importlib.import_module(f"dg2_jax.scripts.accelerator.{name}")
    part.run(record, Options(tuple(_MODELS.value), _QUICK.value))


if __name__ == "__main__":
    command(run, RuntimeError, arguments="PART FILE")
