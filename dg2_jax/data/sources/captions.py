"""Captions from text files, JSON and table cells, or the reason why they cannot be used."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dg2_jax.data.text_files import decode

KEYS = ("captions", "caption", "text")


def parse_json(text: str) -> Any:
    """Parses JSON; the values of a repeated key become a list.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def of_record(record: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The captions of a record.

    Args:
        record: a line, an object or a row.
        key: of the captions, such as "text.en" inside an object; empty for the first of `KEYS`
            that is not blank.

    Raises:
        ValueError: as `checked` does.
    """
    if key:
        return checked(_at(record, key))
    filled = (checked(record[k]) for k in KEYS if record.get(k) is not None)
    return next((captions for captions in filled if captions), ())


def checked(value: Any) -> tuple[str, ...]:
    """Captions from a text, its bytes, or a list of these, without blanks and repeats.

    Raises:
        ValueError: it is something else, or not valid text.
    """
    if isinstance(value, Mapping):
        raise ValueError(
            "captions must be text or a list of texts, got an object with the keys "
            f"{', '.join(map(ascii, value))}; caption_key can name one, as text.en does"
        )
    items = value if isinstance(value, list | tuple | np.ndarray) else [value]
    return without_repeats(_text(item).strip() for item in items if item is not None)


def without_repeats(captions: Iterable[str]) -> tuple[str, ...]:
    """Each caption that is not blank once, in order."""
    return tuple(dict.fromkeys(caption for caption in captions if caption))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return decode(value, "a caption")
    if not isinstance(value, str):
        kind = type(value).__name__
        raise ValueError(f"captions must be text or a list of texts, got {kind} {value!a:.80}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"caption {value!a} is no valid text: U+{ord(value[error.start]):04X} is half of a "
            "surrogate pair"
        ) from None
    return value


def _at(value: Any, key: str) -> Any:
    """The value of a dotted key; None if there is none."""
    if not isinstance(value, Mapping):
        return None
    if key in value:
        return value[key]
    first, dot, rest = key.partition(".")
    return _at(value.get(first), rest) if dot else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        values[key] = [*_items(values[key]), *_items(value)] if key in values else value
    return values


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
