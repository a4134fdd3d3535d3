"""Converts a published DiffusionGen2 checkpoint to a model folder.

    python -m scripts.import_checkpoint epoch_0024.pt models/dg2
    python -m scripts.sample --model=models/dg2 --prompt="a lake at dawn"

No torch is needed, and nothing in the file is executed.
"""

import sys
import time

from absl import app

from dg2_jax.interop import dg2_folder


def run(argv: list[str]) -> None:
    """Converts argv[1] to the folder argv[2] and says how long it took."""
    if len(argv) != 3:
        raise app.UsageError("two arguments are needed: FILE.pt OUT_DIR")
    start = time.perf_counter()
    dg2_folder.convert(argv[1], argv[2])
    print(f"wrote {argv[2]} in {time.perf_counter() - start:.1f} s")


def main(argv: list[str]) -> None:
    """Entry point: user errors are one line, not a traceback."""
    try:
        run(argv)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
