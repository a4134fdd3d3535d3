"""Fields of foreign interfaces: done, refused by name, or harmless and ignored.

docs/api.md shows the tables of `a1111_fields` and `openai_fields`. A field that is refused may be
sent with a value that asks for nothing, as clients do unasked.
"""

import json
from typing import Any, NamedTuple

from dg2_jax.checks import ParameterError


class Refused(NamedTuple):
    """A field that is not done.

    Attributes:
        off: the values that ask for nothing; texts in any case.
        reason: why it is not done.
        when: another field, without which this one asks for nothing.
    """

    off: tuple[Any, ...]
    reason: str
    when: str | None = None


class Ignored(NamedTuple):
    """A field that may say anything.

    Attributes:
        reason: why that does no harm.
    """

    reason: str


Row = str | Refused | Ignored  # a text says how the field is done


def check(table: dict[str, Row], sent: dict[str, Any]) -> None:
    """Checks what a client sent, before anything is made of it; null is as left out.

    Raises:
        ParameterError: a field that is not done asks for something.
    """
    for name, value in sent.items():
        row = table.get(name)
        if value is None or not isinstance(row, Refused):
            continue
        if row.when is not None and not sent.get(row.when):
            continue
        if not asks_nothing(value, row.off):
            allowed = "".join(f" or send {json.dumps(one)}" for one in row.off[:1])
            raise ParameterError(name, f"is not done: {row.reason}; leave it out{allowed}")


def asks_nothing(value: Any, off: tuple[Any, ...]) -> bool:
    """Whether a value is one of those that ask for nothing."""
    if isinstance(value, str):
        return value.strip().lower() in [one.lower() for one in off if isinstance(one, str)]
    return any(value == one for one in off)
