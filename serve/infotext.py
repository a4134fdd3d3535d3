"""The text in pictures that other tools write and read, under the key `parameters` or in EXIF.

a lake at dawn
Negative prompt: fog
Steps: 20, Sampler: dpmpp_2m, CFG scale: 5.0, Seed: 7, Size: 128x128, Model hash: 53aa51172d,
Model: demo, Weights: ema, guidance_rescale: 0.5, Version: dg2_jax

(the pairs in one line). Labels that other tools know come first, then what they have no label for
by our own names, as far as it differs from the default; so the text alone restores a picture.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from dg2_jax.controls.declaration import Control
from dg2_jax.pictures.images import LABELS, NEGATIVE, parameters_text
from dg2_jax.serve import a1111_names, sizes
from dg2_jax.serve.job_controls import CONTROLS, of_kind
from dg2_jax.serve.schemas import PICTURES

_PAIR = re.compile(r'(\w[\w ]*):\s?("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_SPACE = re.compile(r"\s*")
_LONGEST = 200_000  # of the line of pairs; what is longer is prose
_WRITER = "dg2_jax"  # what "Version" says of our own texts


def write(metadata: Mapping[str, Any]) -> str:
    """The text of a picture with this metadata."""
    kind = metadata.get("kind", "txt2img")
    known = {"prompt", "negative_prompt", "width", "height", "seed", "model", *LABELS.values()}
    others = {
        name: metadata[name]
        for name, control in of_kind(kind).items()
        if name not in known and metadata.get(name) not in (None, control.default)
    }
    inputs = {name: metadata[name] for name in PICTURES if metadata.get(name) is not None}
    more = {} if kind == "txt2img" else {"kind": kind}
    return parameters_text(metadata, {**more, **inputs, **others, "Version": _WRITER})


def parse(text: str) -> dict[str, str]:
    """The text's pairs by label, with "Prompt" and "Negative prompt" among them."""
    *lines, last = text.rstrip().split("\n")
    pairs = _pairs(last) if len(last) <= _LONGEST else {}
    if len(pairs) < 3:
        lines, pairs = [*lines, last], {}
    prompt: list[str] = []
    negative: list[str] = []
    for line in lines:
        if line.startswith(NEGATIVE) and not negative:
            negative.append(line.removeprefix(NEGATIVE))
        else:
            (negative or prompt).append(line)
    return {"Prompt": "\n".join(prompt), "Negative prompt": "\n".join(negative), **pairs}


def _pairs(line: str) -> dict[str, str]:
    """The pairs of a line, in a time that grows with its length only."""
    pairs: dict[str, str] = {}
    start = 0
    while start < len(line):
        pair = _PAIR.match(line, start)
        if pair is not None:
            pairs[pair[1].strip()] = _unquoted(pair[2])
            start = pair.end()
        else:
            comma = line.find(",", start)
            start = len(line) if comma < 0 else comma + 1
        start = _SPACE.match(line, start).end()  # type: ignore[union-attr]
    return pairs


def _unquoted(value: str) -> str:
    value = value.strip()
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value


def to_fields(text: str) -> dict[str, Any]:
    """The pairs as this project's field names, of the right type but unchecked."""
    pairs = parse(text)
    fields: dict[str, Any] = {
        "prompt": pairs.pop("Prompt"),
        "negative_prompt": pairs.pop("Negative prompt"),
    }
    ours = pairs.get("Version") == _WRITER
    for label, value in pairs.items():
        name = LABELS.get(label, label)
        if name in CONTROLS:
            fields[name] = _typed(CONTROLS[name], value)
        elif ours and name in ("kind", *PICTURES):
            fields[name] = value
    if "Sampler" in pairs:
        sampler, spacing = a1111_names.split(pairs["Sampler"])
        spacing = a1111_names.spacing(pairs.get("Schedule type", "")) or spacing
        fields["solver"] = a1111_names.solver(sampler)
        if spacing is not None:
            fields["spacing"] = spacing
    skipped = pairs.get("Clip skip", "")  # counts the last layer too
    if re.fullmatch("[2-9]|1[0-9]", skipped):
        fields.setdefault("clip_skip", int(skipped) - 1)
    size = sizes.parse(pairs.get("Size", ""))
    if ours and size is not None:  # the sizes of other programs are not those of a model here
        fields |= {"width": size[0], "height": size[1]}
    return {name: value for name, value in fields.items() if value is not None}


def _typed(control: Control, text: str) -> Any:
    if control.values.python is str:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
