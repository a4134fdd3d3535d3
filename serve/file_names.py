"""Names of downloaded files, by a pattern such as "{prompt} {seed}"."""

import string
import time
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from dg2_jax.serve.job_controls import CONTROLS
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.records import Image

DEFAULT = "{prompt} {seed}"
_OWN = ("id", "job_id", "index", "kind", "date", "time")
FIELDS = (*_OWN, *CONTROLS)
_RESERVED = '<>:"/\\|?*'  # on some system
_FIELD_BYTES, _NAME_BYTES = 120, 200


def check(pattern: str) -> None:
    """Raises ProblemError, 422 naming `name`, unless a pattern holds known fields only."""
    problem = "must be text with fields in braces, as {prompt}"
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise ProblemError(422, problem, "name") from error
    for _, field, spec, conversion in parts:
        if field is not None and field not in FIELDS:
            raise ProblemError(422, f"has no field {field[:80]!r}: {', '.join(FIELDS)}", "name")
        if spec or conversion:
            raise ProblemError(422, problem, "name")


def name_of(image: Image, pattern: str = DEFAULT) -> str:
    """A picture's file name without its suffix; its id where the pattern gives nothing."""
    made = time.localtime(image.created_at)
    values = {
        **image.metadata,
        **{name: getattr(image, name) for name in ("id", "job_id", "index", "kind", "seed")},
        **{name: getattr(image, name) for name in ("prompt", "width", "height")},
        "date": time.strftime("%Y-%m-%d", made),
        "time": time.strftime("%H-%M-%S", made),
    }
    texts = (
        literal + ("" if field is None else _clip(_plain(values.get(field)), _FIELD_BYTES))
        for literal, field, _, _ in string.Formatter().parse(pattern)
    )
    return _clip(_plain("".join(texts)), _NAME_BYTES).strip(". ") or image.id


def names_of(images: Sequence[Image], pattern: str) -> Iterator[str]:
    """Names of several pictures, none twice."""
    taken: set[str] = set()
    for image in images:
        name = plain = name_of(image, pattern)
        count = 1
        while name.casefold() in taken:
            count += 1
            name = f"{plain} ({count})"
        taken.add(name.casefold())
        yield name


def attachment(name: str) -> dict[str, str]:
    """The header that makes a response a file of a name."""
    simple = name.encode("ascii", "replace").decode().replace("?", "_")
    told = f"attachment; filename*=utf-8''{quote(name, safe='')}; filename=\"{simple}\""
    return {"Content-Disposition": told}


def _plain(value: object) -> str:
    """A value as text that a file's name may hold."""
    text = "" if value is None else str(value)
    kept = (c if c.isprintable() and c not in _RESERVED else " " for c in text)
    return " ".join("".join(kept).split())


def _clip(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")
