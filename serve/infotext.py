"""The readable text in PNGs that other tools write and read, under the key `parameters`.

a lake at dawn
Negative prompt: fog
Steps: 20, Sampler: dpmpp_2m, CFG scale: 5.0, Seed: 7, Size: 128x128, Model: demo
"""

import json
import re
from collections.abc import Mapping
from typing import Any

_NEGATIVE = "Negative prompt: "
_PAIR = re.compile(r'(\w[\w ]*):\s?("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_LONGEST = 4000  # of the line of pairs; what is longer is prose
_LABELS = {
    "Steps": "num_inference_steps",
    "Sampler": "solver",
    "CFG scale": "guidance_scale",
    "Seed": "seed",
    "Size": "size",
    "Model hash": "model_hash",
    "Model": "model",
    "Denoising strength": "strength",
    "Mask blur": "mask_feather",
}


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:\n"]', text) else text


def build(metadata: Mapping[str, Any]) -> str:
    """The text for a picture's metadata."""
    values = dict(metadata) | {"size": f"{metadata.get('width')}x{metadata.get('height')}"}
    edited = metadata.get("kind") in ("img2img", "inpaint")
    pairs = [
        f"{label}: {_quoted(values[name])}"
        for label, name in _LABELS.items()
        if values.get(name) is not None and (edited or name not in ("strength", "mask_feather"))
    ]
    lines = [str(metadata.get("prompt", ""))]
    if metadata.get("negative_prompt"):
        lines.append(_NEGATIVE + str(metadata["negative_prompt"]))
    return "\n".join([*lines, ", ".join(pairs)])


def parse(text: str) -> dict[str, str]:
    """The text's pairs by label, with "Prompt" and "Negative prompt" among them."""
    *lines, last = text.strip().split("\n")
    pairs = _PAIR.findall(last) if len(last) <= _LONGEST else []
    if len(pairs) < 3:
        lines, pairs = [*lines, last], []
    prompt: list[str] = []
    negative: list[str] = []
    for line in lines:
        if line.startswith(_NEGATIVE) and not negative:
            negative.append(line.removeprefix(_NEGATIVE))
        else:
            (negative or prompt).append(line)
    found = {label.strip(): _unquoted(value) for label, value in pairs}
    return {"Prompt": "\n".join(prompt), "Negative prompt": "\n".join(negative), **found}


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
    found: dict[str, Any] = {
        "prompt": pairs["Prompt"],
        "negative_prompt": pairs["Negative prompt"],
    }
    for label, convert in (("Steps", int), ("Seed", int), ("CFG scale", float)):
        try:
            found[_LABELS[label]] = convert(pairs[label])
        except (KeyError, ValueError):
            continue
    if "Sampler" in pairs:
        found["solver"] = pairs["Sampler"]
    return found
