"""Makes pictures from prompts.

    python -m scripts.sample --prompt="a volcano at sunset"
    python -m scripts.sample --prompt="a lake at dawn" --prompt="a misty forest" --num_images=4 \
        --sheet=outputs/sheet.png

Every picture is a PNG in --out that carries its settings.
"""

import sys
import time
from pathlib import Path

from absl import app, flags, logging
from PIL import Image

from dg2_jax import compile_cache, images, solvers
from dg2_jax.pipeline import Pipeline

_PROMPT = flags.DEFINE_multi_string("prompt", None, "What to show; may be given several times.")
_PROMPTS_FILE = flags.DEFINE_string("prompts_file", None, "A text file with a prompt a line.")
_NEGATIVE = flags.DEFINE_string("negative_prompt", "", "What to move away from.")
_MODEL = flags.DEFINE_string("model", "demo", "An embedded model's name or a model folder.")
_WEIGHTS = flags.DEFINE_string("weights", "ema", "ema or raw.")
_NUM = flags.DEFINE_integer("num_images", 1, "Pictures a prompt.")
_STEPS = flags.DEFINE_integer("num_inference_steps", 20, "Steps, 1 to 1000.")
_GUIDANCE = flags.DEFINE_float("guidance_scale", 5.0, "1 is unguided.")
_RESCALE = flags.DEFINE_float("guidance_rescale", 0.0, "0 to 1.")
_SOLVER = flags.DEFINE_string("solver", "dpmpp_2m", f"One of {', '.join(solvers.SOLVERS)}.")
_ETA = flags.DEFINE_float("eta", 0.0, "DDIM's noise, 0 to 1.")
_SEED = flags.DEFINE_integer("seed", None, "Seed of the first picture; drawn if not given.")
_OUT = flags.DEFINE_string("out", "outputs", "Folder of the pictures.")
_SHEET = flags.DEFINE_string("sheet", None, "Write one labelled sheet here instead.")
_COLUMNS = flags.DEFINE_integer("columns", 4, "Columns of the sheet.")


def _prompts() -> list[str]:
    """The prompts of the command line, then those of the file."""
    prompts = list(_PROMPT.value or [])
    if _PROMPTS_FILE.value:
        lines = Path(_PROMPTS_FILE.value).read_text(encoding="utf-8").splitlines()
        prompts += [line.strip() for line in lines if line.strip()]
    return prompts


def run() -> None:
    """Loads, samples, writes, and says where."""
    logging.set_verbosity(logging.WARNING)
    compile_cache.enable()
    start = time.perf_counter()
    pipe = Pipeline.load(_MODEL.value)
    loaded = time.perf_counter()
    result = pipe(
        _prompts(),
        _NEGATIVE.value,
        _NUM.value,
        _STEPS.value,
        _GUIDANCE.value,
        _SOLVER.value,
        _SEED.value,
        _WEIGHTS.value,
        eta=_ETA.value,
        guidance_rescale=_RESCALE.value,
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
    print(f"loaded in {loaded - start:.1f} s, made in {done - loaded:.1f} s (compiling included)")


def main(argv: list[str]) -> None:
    """Parses the flags and runs."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    try:
        run()
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app.run(main)
