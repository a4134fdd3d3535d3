"""What the sampling scripts share: flags parsed, bad input told in one line."""

import sys
from collections.abc import Callable

from absl import app, logging

from dg2_jax import compile_cache


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
