"""How a process begins: its flags over the environment over the defaults, and what is wrong."""

import argparse
import contextlib
import sys
from collections.abc import Iterator

from pydantic import ValidationError

from dg2_jax.serve import database, disk, words
from dg2_jax.serve.server_settings import ServerSettings


def settings(program: str, description: str, arguments: list[str] | None) -> ServerSettings:
    """They; where one is wrong, the process ends with status 2 and what is allowed.

    Args:
        program: the name that the help gives.
        description: likewise.
        arguments: those of the command line if None.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    for name, field in ServerSettings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, dest=name, default=None, help=field.description)
    given = {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    for name in ("allowed_hosts", "allowed_origins"):
        if name in given:
            given[name] = given[name].split(",")
    try:
        return ServerSettings(**given)
    except ValidationError as error:
        for place in error.errors():
            name = ".".join(map(str, place["loc"])) or "settings"
            print(f"error: {name}: {words.message(place)}", file=sys.stderr)
        sys.exit(2)


@contextlib.contextmanager
def errors_told(settings: ServerSettings) -> Iterator[None]:
    """Ends the process with status 2 and one line, where what it needs cannot be used."""
    try:
        yield
    except database.UnusableError as error:
        print(f"error: database: {error}", file=sys.stderr)
        sys.exit(2)
    except disk.ERRORS as error:
        print(f"error: data: {disk.reason(error)}: {settings.data}", file=sys.stderr)
        sys.exit(2)
    except ValueError as error:  # a damaged file
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
