"""Embeds the prompts and writes the index that `Bank.load()` reads.

python -m bank.build                    # the one that ships, with MiniLM: seconds
python -m bank.build --encoder=clip --out=outputs/bank_clip
"""

from pathlib import Path

import numpy as np
from absl import app, flags

from dg2_jax.bank import builder, store
from dg2_jax.text.loading import load_text_encoder

_PROMPTS = flags.DEFINE_string("prompts", str(builder.PROMPTS), "Folder of <split>/<category>.txt.")
_ENCODER = flags.DEFINE_string("encoder", "minilm", "'minilm', 'clip', or see load_text_encoder.")
_OUT = flags.DEFINE_string("out", None, "Folder of the index; bank/index/minilm for minilm.")


def main(argv: list[str]) -> None:
    """Parses the flags, embeds, writes."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if _OUT.value is None and _ENCODER.value != "minilm":
        raise app.UsageError("--out is needed for an encoder other than minilm")
    folder = Path(_OUT.value or builder.SHIPPED)
    entries = builder.read_prompts(Path(_PROMPTS.value))
    vectors = builder.embed(load_text_encoder(_ENCODER.value), [entry.prompt for entry in entries])
    store.write(folder, store.StoredBank(_ENCODER.value, entries, vectors.astype(np.float16)))
    categories = len({entry.category for entry in entries})
    print(f"{len(entries)} prompts of {categories} categories -> {folder}")


if __name__ == "__main__":
    app.run(main)
