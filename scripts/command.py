"""The entry point shared by the scripts: parsed flags, one-line errors."""

import re
import sys
from collections.abc import Callable

from absl import app, logging

from dg2_jax import compile_cache

_INTERRUPTED = 130  # 128 + SIGINT


def command(run: Callable[[], None], *errors: type[Exception]) -> None:
    """Parses the flags and calls `run`; an expected error is printed in one line, with exit code 1.

    Ctrl-C exits with 130, as shells expect, and prints the interruption's message if it has one.

    Args:
        run: the command.
        errors: expected exceptions, besides ValueError and OSError.
    """
    expected: tuple[type[Exception], ...] = (ValueError, OSError, *errors)

    def main(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments: {argv[1:]}")
        logging.set_verbosity(logging.WARNING)  # other messages would break progress bars
        compile_cache.enable()
        try:
            run()
        except expected as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt as error:
            print(f"\n{error or 'interrupted'}", file=sys.stderr)
            sys.exit(_INTERRUPTED)

    app.run(main, flags_parser=parse_flags)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses a script's flags, for `app.run(main, flags_parser=parse_flags)`.

    ml_collections answers an unknown `--config.key` with a traceback; this prints one line.

    Raises:
        SystemExit: a bad flag; the message names it.
    """
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError) as error:
        overrides = [a for a in argv if a.lstrip("-").startswith("config.")]
        key = re.findall(r"\w+", str(error).replace("\\n", " "))[0]
        wrong = [a for a in overrides if key in a.partition("=")[0].split(".")] or overrides
        sys.exit(f"unknown configuration key {key!r} in {' '.join(wrong)}; see the --config file")
