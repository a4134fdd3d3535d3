"""A labelled sheet over any two or three parameters of the pipeline.

    dg2 grid "a volcano at sunset" \
        --x=guidance_scale=1,2.5,5,8 --y=num_inference_steps=4,8,20 --out=outputs/grid.png
    dg2 grid --x=solver=ddim,dpmpp_2m,unipc --y="prompt=a lake;a misty forest"

An axis is NAME=VALUES with commas between the values, or semicolons if values contain commas; NAME
is any control of `dg2_jax.controls.arguments.declared` except num_images. A third axis, --z, stacks
one sheet per value. All pictures share the seed.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from PIL import Image
from tqdm import tqdm

from dg2_jax.checks import ParameterError
from dg2_jax.controls.arguments import declared
from dg2_jax.controls.declaration import check_names
from dg2_jax.pictures import images
from dg2_jax.pipeline import Pipeline
from dg2_jax.scripts.command import command
from dg2_jax.scripts.loading import define_lora, load

_PROMPT = flags.DEFINE_string("prompt", "a volcano at sunset", "What to show.")
_MODEL = flags.DEFINE_string("model", "demo", "An embedded model's name or a model folder.")
_LORA = define_lora()
_SEED = flags.DEFINE_integer("seed", 0, "Seed of every picture.")
_SET = flags.DEFINE_multi_string("set", [], "NAME=VALUE, for every picture; may be repeated.")
_X = flags.DEFINE_string("x", "guidance_scale=1,2.5,5,8", "What changes from left to right.")
_Y = flags.DEFINE_string("y", "num_inference_steps=4,8,20", "What changes from top to bottom.")
_Z = flags.DEFINE_string("z", None, "What changes from sheet to sheet.")
_OUT = flags.DEFINE_string("out", "outputs/grid.png", "The sheet.")


def parse_axis(axis: str) -> tuple[str, list[Any]]:
    """NAME=VALUES to the name and the values.

    Raises:
        ValueError: there is no name or no value.
        ParameterError: there is no such control, or a value is not allowed.
    """
    name, equals, values = axis.partition("=")
    separator = ";" if ";" in values else ","
    texts = [part.strip() for part in values.split(separator) if part.strip()]
    if not equals or not name.strip() or not texts:
        raise ValueError(f"an axis must be NAME=VALUE,VALUE,…; got {axis!r}")
    known = {key: entry for key, entry in declared().items() if key != "num_images"}
    check_names([name.strip()], known, "the grid")
    control = known[name.strip()]
    return control.name, [control.checked(control.parse(text)) for text in texts]


def make(
    pipe: Pipeline, axes: list[tuple[str, list[Any]]], common: dict[str, Any]
) -> tuple[list[np.ndarray], list[str]]:
    """The pictures of every combination, the last axis changing slowest, and their labels."""
    names = [name for name, _ in axes]
    cells = list(itertools.product(*(values for _, values in reversed(axes))))
    pictures, labels = [], []
    for cell in tqdm(cells, unit="picture", disable=None):
        chosen = dict(zip(reversed(names), cell, strict=True))
        pictures.append(pipe(**{**common, **chosen}).images[0])
        labels.append(", ".join(f"{name} {chosen[name]}" for name in names))
    return pictures, labels


def run(*prompts: str) -> None:
    """Samples the grid and writes it."""
    if len(prompts) > 1:
        raise ParameterError("prompt", f"must be one text, got {len(prompts)}; see --y=prompt=A;B")
    axes = [parse_axis(axis) for axis in (_X.value, _Y.value, _Z.value) if axis]
    common = {"prompt": prompts[0] if prompts else _PROMPT.value, "seed": _SEED.value}
    for given in _SET.value:
        name, values = parse_axis(given)
        common[name] = values[0]
    pictures, labels = make(load(_MODEL.value, _LORA.value), axes, common)
    sheet = images.contact_sheet(np.stack(pictures), len(axes[0][1]), labels)
    Path(_OUT.value).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(_OUT.value)
    print(_OUT.value)


if __name__ == "__main__":
    command(run, arguments="PROMPT…")
