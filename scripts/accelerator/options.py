"""The parts of the check, and what they are asked for."""

from typing import NamedTuple

# The parts are modules of this folder, with a function `run(record, options)`, in their order; each
# with its share of the time, in percent where all run.
PARTS = {
    "device": 3,
    "parity": 19,
    "steps": 43,
    "attention": 8,
    "training": 13,
    "pictures": 6,
    "batching": 8,
}
MODELS = ("demo", "toy", "base", "sd15")


class Options(NamedTuple):
    """The choices that hold for every part.

    Attributes:
        models: of `MODELS`.
        quick: small sizes and single runs: a rehearsal, whose figures mean nothing.
    """

    models: tuple[str, ...]
    quick: bool
