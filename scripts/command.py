"""What the sampling scripts share: flags parsed, bad input told in one line."""

import sys
from collections.abc import Callable

from absl import app, flags, logging

from dg2_jax import Pipeline, compile_cache


def define_lora() -> flags.FlagHolder[list[str] | None]:
    """The flag whose value `load` takes."""
    return flags.DEFINE_multi_string(
        "lora", None, "FILE:WEIGHT of an adapter that scripts.train made; may be repeated."
    )


def load(model: str, loras: list[str] | None) -> Pipeline:
    """The pipeline of a model with the adapters of `define_lora`; no weight is 1.

    Raises:
        ValueError, FileNotFoundError: as `Pipeline.load` and `Pipeline.with_lora`.
    """
    pipe = Pipeline.load(model)
    for given in loras or ():
        path, _, weight = given.rpartition(":")
        try:
            pipe = pipe.with_lora(path or weight, float(weight) if path else 1.0)
        except ValueError as error:
            if "could not convert" not in str(error):
                raise
            raise ValueError(f"lora must be FILE:WEIGHT, got {given!r}") from error
    return pipe


def command(run: Callable[[], None], *bad_input: type[Exception]) -> None:
    """Parses the flags and calls `run`; what is wrong with the input is said in one line, exit 2.

    Args:
        run: what the command does.
        bad_input: exceptions that speak of the input, besides ValueError and FileNotFoundError.
    """
    expected: tuple[type[Exception], ...] = (ValueError, FileNotFoundError, *bad_input)

    def main(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments: {argv[1:]}")
        logging.set_verbosity(logging.WARNING)
        compile_cache.enable()
        try:
            run()
        except expected as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    app.run(main)
