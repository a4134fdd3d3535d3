"""The entry point shared by the scripts: parsed flags, one-line errors."""

import re
import sys
from collections.abc import Callable

from absl import app, logging

from dg2_jax import compile_cache

_INTERRUPTED = 130  # 128 + SIGINT


def command(
    run: Callable[..., None], *errors: type[Exception], arguments: str | None = None
) -> None:
    """Parses the flags and calls `run`; an expected error is printed in one line, with exit code 1.

    Ctrl-C exits with 130, as shells expect, and prints the interruption's message if it has one.

    Args:
        run: the command.
        errors: expected exceptions, besides ValueError and OSError.
        arguments: what may stand beside the flags, for messages: such as "SOURCE OUT", or "PROMPT…"
            for any number. `run` is called with these; None: nothing may, and `run` is called
            without arguments.
    """
    expected: tuple[type[Exception], ...] = (ValueError, OSError, *errors)

    def main(argv: list[str]) -> None:
        given = argv[1:]
        if arguments is None and given:
            raise app.UsageError(f"unexpected arguments: {given}")
        if arguments and not arguments.endswith("…") and len(given) != len(arguments.split()):
            raise app.UsageError(f"needed beside the flags: {arguments}; got {given}")
        logging.set_verbosity(logging.WARNING)  # other messages would break progress bars
        compile_cache.enable()
        try:
            run(*given)
        except expected as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt as error:
            print(f"\n{error or 'interrupted'}", file=sys.stderr)
            sys.exit(_INTERRUPTED)

    app.run(main, flags_parser=parse_flags)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses a script's flags, for `app.run(main, flags_parser=parse_flags)`.

    Flags may be written with dashes or underscores. ml_collections answers an unknown
    `--config.key` with a traceback; this prints one line.

    Raises:
        SystemExit: a bad flag; the message names it.
    """
    argv = [re.sub(r"^--[a-z][\w-]*", _underscored, argument) for argument in argv]
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError) as error:
        overrides = [a for a in argv if a.lstrip("-").startswith("config.")]
        key = re.findall(r"\w+", str(error).replace("\\n", " "))[0]
        wrong = [a for a in overrides if key in a.partition("=")[0].split(".")] or overrides
        sys.exit(f"unknown configuration key {key!r} in {' '.join(wrong)}; see the --config file")


def _underscored(flag: re.Match[str]) -> str:
    return "--" + flag[0][2:].replace("-", "_")
