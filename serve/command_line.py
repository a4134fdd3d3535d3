"""How a process begins: its flags over the environment over the defaults, and what is wrong."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import NoReturn

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
    from dg2_jax.models.model import ModelError  # JAX takes seconds: settings are checked first

    try:
        yield
    except database.UnusableError as error:
        end(f"database: {error}")
    except disk.ERRORS as error:
        end(f"data: {disk.reason(error)}: {settings.data}")
    except ModelError as error:
        tell_of_model(error)
        sys.exit(2)
    except ValueError as error:  # a damaged file
        end(str(error))


def end(reason: str) -> NoReturn:
    """Ends the process with status 2, and one line that says why."""
    _tell(reason)
    sys.exit(2)


def tell_of_model(reason: object) -> None:
    """Says in one line that the model cannot be used."""
    _tell(f"model: {reason}; put it right, or name another with DG2_MODEL")


def _tell(reason: str) -> None:
    print(f"error: {' '.join(reason.split())}", file=sys.stderr)
