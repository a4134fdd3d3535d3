"""What the scripts share: flags parsed, errors of one line."""

import sys
from collections.abc import Callable

from absl import app, logging

from dg2_jax import compile_cache
from dg2_jax.config import parse_flags

_INTERRUPTED = 130  # 128 + SIGINT


def command(run: Callable[[], None], *errors: type[Exception]) -> None:
    """Parses the flags and calls `run`; an error to be expected is told in one line, exit 1.

    Ctrl-C ends with 130, as shells expect, and the message of the interruption if it has one.

    Args:
        run: what the command does.
        errors: exceptions to be expected, besides ValueError and OSError.
    """
    expected: tuple[type[Exception], ...] = (ValueError, OSError, *errors)

    def main(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments: {argv[1:]}")
        logging.set_verbosity(logging.WARNING)  # the libraries' own notes would break the bars
        compile_cache.enable()
        try:
            run()
        except expected as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt as error:
            print(f"\n{error or 'interrupted'}", file=sys.stderr)
            sys.exit(_INTERRUPTED)

    app.run(main, flags_parser=parse_flags)
