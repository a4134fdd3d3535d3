"""Makes and edits pictures.

    python -m scripts.sample --prompt="a volcano at sunset"
    python -m scripts.sample --prompt="a lake at dawn" --prompt="a misty forest" --num_images=4 \
        --sheet=outputs/sheet.png
    python -m scripts.sample --prompt="a snowy forest" --image=photo.jpg --strength=0.6
    python -m scripts.sample --prompt="a red tree" --image=meadow.png --mask=mask.png --strength=1
    python -m scripts.sample --anagram="a mountain lake:identity" --anagram="a canyon:rot180"
    python -m scripts.sample --prompt="a harbour" --lora=runs/lora/lora.safetensors:0.8
    python -m scripts.sample --prompt="an island" --upscale=4 --animate=outputs/island.gif

Every picture is a PNG in --out that carries its settings.
"""

import time
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from dg2_jax import settings as options
from dg2_jax import text_files
from dg2_jax.diffusion import schedules, solvers
from dg2_jax.diffusion.views import VIEWS
from dg2_jax.models.model import DTYPES, WEIGHTS
from dg2_jax.pictures import images, preview
from dg2_jax.pipeline import Preview
from scripts.command import command
from scripts.loading import define_lora, load

_PROMPT = flags.DEFINE_multi_string("prompt", None, "What to show; may be given several times.")
_PROMPTS_FILE = flags.DEFINE_string("prompts_file", None, "A text file with a prompt a line.")
_NEGATIVE = flags.DEFINE_string("negative_prompt", "", "What to move away from.")
_MODEL = flags.DEFINE_string("model", "demo", "An embedded model's name or a model folder.")
_WEIGHTS = flags.DEFINE_enum("weights", "ema", WEIGHTS, "Of those that the model has.")
_LORA = define_lora()
_QUANTIZE = flags.DEFINE_enum(
    "quantize", None, DTYPES, "Keep the denoiser's weights in this dtype."
)
_NUM = flags.DEFINE_integer("num_images", 1, "Pictures a prompt.")
_STEPS = flags.DEFINE_integer(
    "num_inference_steps",
    None,
    "1 to 1000; the default of this and the next two is the weights' own.",
)
_GUIDANCE = flags.DEFINE_float("guidance_scale", None, "1 is unguided.")
_RESCALE = flags.DEFINE_float("guidance_rescale", 0.0, "0 to 1.")
_INTERVAL = flags.DEFINE_list("guidance_interval", None, "Noise levels low,high of guidance.")
_SOLVER = flags.DEFINE_string("solver", None, f"One of {', '.join(solvers.SOLVERS)}.")
_REUSE = flags.DEFINE_integer(
    "reuse_every", 1, "Run the UNet's deep levels at every so many rows of the solver only."
)
_SPACING = flags.DEFINE_string("spacing", None, f"One of {', '.join(schedules.SPACINGS)}.")
_ETA = flags.DEFINE_float("eta", 0.0, "DDIM's noise, 0 to 1.")
_SEED = flags.DEFINE_integer("seed", None, "Seed of the first picture; drawn if not given.")
_IMAGE = flags.DEFINE_string("image", None, "A picture to start from.")
_STRENGTH = flags.DEFINE_float("strength", 0.75, "How much of it may change, 0 to 1.")
_STRENGTH_MODE = flags.DEFINE_string("strength_mode", "partial", ", ".join(options.STRENGTH_MODES))
_RESIZE = flags.DEFINE_string("resize_mode", "crop", ", ".join(options.RESIZE_MODES))
_INVERSION = flags.DEFINE_string("inversion", None, f"One of {', '.join(options.INVERSIONS)}.")
_SOURCE = flags.DEFINE_string("source_prompt", "", "What --image shows, for --inversion.")
_MASK = flags.DEFINE_string("mask", None, "A picture that is white where --image is repainted.")
_FEATHER = flags.DEFINE_float("mask_feather", 4.0, "Pixels, 0 to 64.")
_RESAMPLES = flags.DEFINE_integer("num_resamples", 1, "RePaint's repetitions, 1 to 20.")
_OUTPAINT = flags.DEFINE_list("outpaint", None, "New pixels: left,top,right,bottom.")
_ANAGRAM = flags.DEFINE_multi_string(
    "anagram", None, f"prompt:view, given 2 to 4 times; views: {', '.join(VIEWS)}."
)
_ANAGRAM_MODE = flags.DEFINE_string("anagram_mode", "latent", ", ".join(options.ANAGRAM_MODES))
_UPSCALE = flags.DEFINE_integer("upscale", None, "2 or 4.")
_UPSCALER = flags.DEFINE_string("upscaler", "x4plus", ", ".join(options.UPSCALERS))
_ANIMATE = flags.DEFINE_string("animate", None, "Write the denoising here, as .gif or .webp.")
_OUT = flags.DEFINE_string("out", "outputs", "Folder of the pictures.")
_SHEET = flags.DEFINE_string("sheet", None, "Write one labelled sheet here instead.")
_COLUMNS = flags.DEFINE_integer("columns", 4, "Columns of the sheet.")


def _prompts() -> list[str] | str:
    """The prompts of the command line, then those of the file; empty for an anagram."""
    prompts = list(_PROMPT.value or [])
    if _PROMPTS_FILE.value:
        path = Path(_PROMPTS_FILE.value)
        text = text_files.decode(path.read_bytes(), f"prompts_file: {path}")
        of_file = [line.strip() for line in text_files.lines(text) if line.strip()]
        if not of_file:
            raise ValueError(f"prompts_file: {path} holds no prompt")
        prompts += of_file
    return prompts if prompts or not _ANAGRAM.value else ""


def _numbers(name: str, texts: list[str] | None, kind: type) -> tuple | None:
    if texts is None:
        return None
    try:
        return tuple(kind(text) for text in texts)
    except ValueError:
        raise ValueError(f"{name} must be numbers with commas, got {','.join(texts)}") from None


def _anagram() -> tuple[tuple[str, str], ...] | None:
    pairs = [text.rpartition(":") for text in _ANAGRAM.value or []]
    return tuple((prompt, view.strip()) for prompt, _, view in pairs) or None


def run() -> None:
    """Loads, samples, writes, and says where."""
    animation = preview.animation_path(_ANIMATE.value) if _ANIMATE.value else None
    start = time.perf_counter()
    pipe = load(_MODEL.value, _LORA.value, _QUANTIZE.value)
    loaded = time.perf_counter()
    frames: list[np.ndarray] = []

    def keep(shown: Preview) -> None:
        if shown.first_image == 0:
            frames.append(shown.images[0])

    result = pipe(
        _prompts(),
        _NEGATIVE.value,
        _NUM.value,
        _STEPS.value,
        _GUIDANCE.value,
        _SOLVER.value,
        _SEED.value,
        _WEIGHTS.value,
        image=_IMAGE.value,
        mask=_MASK.value,
        on_preview=keep if animation else None,
        preview_every=1,
        preview_mode="vae",
        eta=_ETA.value,
        spacing=_SPACING.value,
        guidance_rescale=_RESCALE.value,
        guidance_interval=_numbers("guidance_interval", _INTERVAL.value, float),
        reuse_every=_REUSE.value,
        strength=_STRENGTH.value,
        strength_mode=_STRENGTH_MODE.value,
        resize_mode=_RESIZE.value,
        inversion=_INVERSION.value,
        source_prompt=_SOURCE.value,
        mask_feather=_FEATHER.value,
        num_resamples=_RESAMPLES.value,
        outpaint=_numbers("outpaint", _OUTPAINT.value, int),
        anagram=_anagram(),
        anagram_mode=_ANAGRAM_MODE.value,
        upscale=_UPSCALE.value,
        upscaler=_UPSCALER.value,
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
    command(run)
