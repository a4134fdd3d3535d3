"""From what a picture says of itself to the request that makes it again."""

import math
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from dg2_jax.controls.declaration import KINDS
from dg2_jax.serve import problems
from dg2_jax.serve.job_controls import CHOICES
from dg2_jax.serve.schemas import REQUESTS, job_request


def request_of(
    fields: dict[str, Any], size: tuple[int, int] | None, has: Callable[[str], bool]
) -> dict[str, Any] | None:
    """The request in a picture's metadata, without the fields that are not valid.

    Args:
        fields: metadata, as untrusted as the file it came from.
        size: width and height of the picture, after any enlarging; None where another program made
            it, whose sizes are not those of a model here.
        has: whether there is a stored picture of an id; where what a picture was made from is
            missing, the request is one for txt2img.

    Returns:
        A valid request, None if nothing is left of it.
    """
    kind: str = fields["kind"] if fields.get("kind") in KINDS else "txt2img"
    if not (isinstance(control := fields.get("control_image"), str) and has(control)):
        fields = {k: v for k, v in fields.items() if not k.startswith("control")}
    inputs = [fields[name] for name in ("image", "mask") if fields.get(name) is not None]
    if not all(isinstance(name, str) and has(name) for name in inputs):
        kind = "txt2img"
    if kind == "anagram":
        fields = {**fields, "anagram": _objects(fields.get("anagram"))}
    own_size = fields.get("inpaint_area") != "only_masked" and fields.get("hires_size") is None
    if size is not None and own_size:
        factor = fields["upscale"] if fields.get("upscale") in CHOICES["upscale"] else 1
        fields = {**fields, "width": size[0] // factor, "height": size[1] // factor}
    known = {name: fields[name] for name in REQUESTS[kind].model_fields if name in fields}
    known["kind"] = kind
    while True:
        try:
            return job_request.validate_python(known).fields()
        except ValidationError as error:
            bad = {name.partition(".")[0] for name, _ in problems.field_errors(error.errors())}
            bad &= set(known) - {"kind"}
            if not bad:
                return None
            known = {name: value for name, value in known.items() if name not in bad}


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
