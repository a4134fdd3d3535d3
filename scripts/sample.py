"""Generates and edits pictures.

    dg2 sample "a volcano at sunset"
    dg2 sample "a lake at dawn" "a misty forest" --num_images=4 \
        --sheet=outputs/sheet.png
    dg2 sample "a snowy forest" --image=photo.jpg --strength=0.6
    dg2 sample "a red tree" --image=meadow.png --mask=mask.png --strength=1
    dg2 sample --anagram="a mountain lake:identity" --anagram="a canyon:rot180"
    dg2 sample "a harbour" --lora=runs/lora/lora.safetensors:0.8
    dg2 sample "a harbour" --model=v1-5-pruned.safetensors
    dg2 sample "a fox <lora:ink:0.8>" --model=xl --loras=loras
    dg2 sample "a {calm|stormy} lake in __season__" --num_images=4
    dg2 sample "an island" --upscale=4 --animate=outputs/island.gif

Every control is a flag; --helpshort lists them. Every picture is written to --out as a PNG with its
settings inside.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from PIL import Image

from dg2_jax.checks import ParameterError
from dg2_jax.data import text_files
from dg2_jax.models.model import DTYPES
from dg2_jax.pictures import images, preview
from dg2_jax.result import Preview
from dg2_jax.scripts import control_flags
from dg2_jax.scripts.command import command
from dg2_jax.scripts.loading import define_folders, define_lora, define_source, load

_PROMPT = flags.DEFINE_multi_string("prompt", None, "What to show; may be given several times.")
_PROMPTS_FILE = flags.DEFINE_string("prompts_file", None, "A text file with one prompt per line.")
_MODEL = flags.DEFINE_string(
    "model",
    "demo",
    "An embedded model's name, a model folder, or Stable Diffusion: a diffusers folder, a hub id "
    "or one file.",
)
_SOURCE = {**define_source(), **define_folders()}
_LORA = define_lora()
_QUANTIZE = flags.DEFINE_enum(
    "quantize", None, DTYPES, "Keep the denoiser's weights in this dtype."
)
_IMAGE = flags.DEFINE_string("image", None, "A picture to start from.")
_CONTROL_IMAGE = flags.DEFINE_string("control_image", None, "A picture that --controlnet follows.")
_MASK = flags.DEFINE_string("mask", None, "A picture that is white where --image is repainted.")
_CONTROLS = control_flags.define(without=("prompt", "preview_every", "preview_mode"))
_ANIMATE = flags.DEFINE_string("animate", None, "Write the denoising here, as .gif or .webp.")
_OUT = flags.DEFINE_string("out", "outputs", "Folder of the pictures, or a file that ends in .png.")
_SHEET = flags.DEFINE_string("sheet", None, "Write one labelled sheet here instead.")
_COLUMNS = flags.DEFINE_integer("columns", 4, "Columns of the sheet.")


def _prompts(given: tuple[str, ...], controls: dict[str, Any]) -> list[str] | str:
    """The prompts of the command line, then those of the file; empty for an anagram."""
    prompts = [*given, *(_PROMPT.value or [])]
    if _PROMPTS_FILE.value:
        path = Path(_PROMPTS_FILE.value)
        text = text_files.decode(path.read_bytes(), f"prompts_file: {path}")
        of_file = [line.strip() for line in text_files.lines(text) if line.strip()]
        if not of_file:
            raise ParameterError("prompts_file", f"{path} holds no prompt")
        prompts += of_file
    return prompts if prompts or "anagram" not in controls else ""


def run(*prompts: str) -> None:
    """Loads, samples and writes, and prints where."""
    controls = control_flags.given(_CONTROLS)
    animation = preview.animation_path(_ANIMATE.value) if _ANIMATE.value else None
    start = time.perf_counter()
    pipe = load(_MODEL.value, _LORA.value, _QUANTIZE.value, _SOURCE)
    loaded = time.perf_counter()
    frames: list[np.ndarray] = []

    def keep(shown: Preview) -> None:
        if shown.first_image == 0:
            frames.append(shown.images[0])

    result = pipe(
        _prompts(prompts, controls),
        image=_IMAGE.value,
        mask=_MASK.value,
        control_image=_CONTROL_IMAGE.value,
        on_preview=keep if animation else None,
        preview_every=1,
        preview_mode="vae",
        **{"seed": None, **controls},
    )
    done = time.perf_counter()
    if _SHEET.value:
        sheet = images.contact_sheet(result.images, _COLUMNS.value, result.prompts)
        Path(_SHEET.value).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet).save(_SHEET.value)
        print(_SHEET.value)
    else:
        for path in result.save(_OUT.value):
            print(path)
    if animation:
        print(preview.save_animation(frames, animation))
    print(f"loaded in {loaded - start:.1f} s, made in {done - loaded:.1f} s (compiling included)")


if __name__ == "__main__":
    command(run, arguments="PROMPT…")
