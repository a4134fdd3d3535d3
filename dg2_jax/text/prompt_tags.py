"""Names of LoRA files in prompts, as users of AUTOMATIC1111's web UI write them.

a harbour <lora:ink:0.8>      the prompt "a harbour", with the adapter "ink" at weight 0.8
a harbour <lora:ink>          at weight 1

Other kinds of networks that are named so there (<hypernet:…>, <lyco:…>) are refused.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from dg2_jax.checks import ParameterError

MAX_LORA_WEIGHT = 10.0  # either way

_LORA = "lora"
_TAG = re.compile(r"<(\w+):([^<>]*)>")


class LoraTag(NamedTuple):
    """A name of an adapter and the weight that it is applied with."""

    name: str
    weight: float


def split(prompt: str, parameter: str = "prompt") -> tuple[str, tuple[LoraTag, ...]]:
    """The prompt without its tags, and the tags in their order.

    Raises:
        ParameterError: of the parameter: a tag of another kind, without a name, or whose weight is
            no number from -10 to 10.

    >>> split("a harbour <lora:ink:0.8> at dusk")
    ('a harbour at dusk', (LoraTag(name='ink', weight=0.8),))
    """
    tags = tuple(_parsed(match[1], match[2], parameter) for match in _TAG.finditer(prompt))
    if not tags:
        return prompt, ()
    return re.sub(r"[ \t]{2,}", " ", _TAG.sub("", prompt)).strip(), tags


def holds_any(prompt: str) -> bool:
    """Whether a prompt holds a tag, right or wrong."""
    return _TAG.search(prompt) is not None


def refuse(prompts: Sequence[str], parameter: str) -> None:
    """Raises ParameterError of the parameter if one of its texts holds a tag."""
    for prompt in prompts:
        if match := _TAG.search(prompt):
            raise ParameterError(
                parameter, f"must not hold <{match[1]:.80}:…>: an adapter acts on the whole image"
            )


def _parsed(kind: str, text: str, parameter: str) -> LoraTag:
    if kind != _LORA:
        raise ParameterError(
            parameter, f"must not hold <{kind:.80}:…>: of networks by name, <lora:…> alone is read"
        )
    name, colon, written = (part.strip() for part in text.partition(":"))
    try:
        weight = float(written) if colon else 1.0
    except ValueError:
        weight = float("nan")
    if not name or not abs(weight) <= MAX_LORA_WEIGHT:
        raise ParameterError(
            parameter,
            f"must name adapters as <lora:name:0.8>, with a weight from -{MAX_LORA_WEIGHT:g} to "
            f"{MAX_LORA_WEIGHT:g}; got {f'<lora:{text}>'!r:.80}",
        )
    return LoraTag(name, weight)
