"""From what a picture says of itself to the request that makes it again."""

import math
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from serve.choices import CHOICES, KINDS
from serve.schemas import job_request

# The smallest valid request of each kind.
_MINIMAL: dict[str, dict[str, Any]] = {
    "txt2img": {},
    "img2img": {"image": "-"},
    "inpaint": {"image": "-", "mask": "-"},
    "anagram": {"anagram": [{"prompt": "", "view": view} for view in CHOICES["view"][:2]]},
    "upscale": {"image": "-", "upscale": CHOICES["upscale"][0]},
}


def request_of(fields: dict[str, Any], has: Callable[[str], bool]) -> dict[str, Any] | None:
    """The request in a picture's metadata, without the fields that are not valid.

    Args:
        fields: metadata, as untrusted as the file it came from.
        has: whether there is a stored picture of an id; where what a picture was made from is
            missing, the request is one for txt2img.

    Returns:
        A valid request, None if nothing is left of it.
    """
    kind: str = fields["kind"] if fields.get("kind") in KINDS else "txt2img"
    inputs = [fields[name] for name in ("image", "mask") if fields.get(name) is not None]
    if not all(isinstance(name, str) and has(name) for name in inputs):
        kind = "txt2img"
    if kind == "anagram":
        fields = {**fields, "anagram": _objects(fields.get("anagram"))}
    model = type(job_request.validate_python({"kind": kind, **_MINIMAL[kind]}))
    wanted = {name: fields[name] for name in model.model_fields if name in fields}
    wanted["kind"] = kind
    while True:
        try:
            return job_request.validate_python(wanted).model_dump(mode="json")
        except ValidationError as error:
            bad = {place["loc"][1] for place in error.errors() if len(place["loc"]) > 1}
            bad &= set(wanted) - {"kind"}
            if not bad:
                return None
            wanted = {name: value for name, value in wanted.items() if name not in bad}


def finite(value: Any) -> Any:
    """Plain data without NaN and infinities, which a PNG may say and JSON cannot."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _objects(pairs: Any) -> Any:
    """The library stores anagrams as pairs, the API takes objects."""
    try:
        return [{"prompt": prompt, "view": view} for prompt, view in pairs]
    except (TypeError, ValueError):
        return None
