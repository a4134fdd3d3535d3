"""Reads the text in PNGs that other tools write and read, under the key `parameters`.

a lake at dawn
Negative prompt: fog
Steps: 20, Sampler: dpmpp_2m, CFG scale: 5.0, Seed: 7, Size: 128x128, Model: demo
"""

import json
import re
from typing import Any

from dg2_jax.pictures.images import LABELS, NEGATIVE

_PAIR = re.compile(r'(\w[\w ]*):\s?("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_LONGEST = 4000  # of the line of pairs; what is longer is prose


def parse(text: str) -> dict[str, str]:
    """The text's pairs by label, with "Prompt" and "Negative prompt" among them."""
    *lines, last = text.strip().split("\n")
    pairs = _PAIR.findall(last) if len(last) <= _LONGEST else []
    if len(pairs) < 3:
        lines, pairs = [*lines, last], []
    prompt: list[str] = []
    negative: list[str] = []
    for line in lines:
        if line.startswith(NEGATIVE) and not negative:
            negative.append(line.removeprefix(NEGATIVE))
        else:
            (negative or prompt).append(line)
    labelled = {label.strip(): _unquoted(value) for label, value in pairs}
    return {"Prompt": "\n".join(prompt), "Negative prompt": "\n".join(negative), **labelled}


def _unquoted(value: str) -> str:
    value = value.strip()
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value


def to_fields(text: str) -> dict[str, Any]:
    """The pairs as this project's field names, unchecked; numbers where they should be."""
    pairs = parse(text)
    fields: dict[str, Any] = {
        "prompt": pairs["Prompt"],
        "negative_prompt": pairs["Negative prompt"],
    }
    for label, convert in (("Steps", int), ("Seed", int), ("CFG scale", float)):
        try:
            fields[LABELS[label]] = convert(pairs[label])
        except (KeyError, ValueError):
            continue
    if "Sampler" in pairs:
        fields["solver"] = pairs["Sampler"]
    return fields
