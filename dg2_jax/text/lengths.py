"""How long a prompt is to a text encoder, and what of it the encoder leaves out."""

from typing import Any, NamedTuple

from dg2_jax.text import prompt_syntax, prompt_tags
from dg2_jax.text.encoder import TextEncoder


class Length(NamedTuple):
    """A prompt's length, of the longest of the texts that AND joins.

    Attributes:
        tokens: that it has, without the start and end tokens.
        limit: that the encoder reads.
        cut: the text beyond the limit, which is ignored; empty where all is read.
    """

    tokens: int
    limit: int
    cut: str


def measure(encoder: Any, prompt: str, name: str = "prompt") -> Length | None:
    """A prompt's length; None for an encoder that reads prompts of any length.

    Args:
        encoder: of the pipeline; None where it is not known, so that only the syntax is checked.
        prompt: with the syntax of `prompt_syntax` and the tags of `prompt_tags`.
        name: of the parameter, for messages.

    Raises:
        ValueError: the prompt's syntax, or a tag in it, is wrong.
    """
    prompt = prompt_tags.split(prompt, name)[0]
    texts = [part.text for part in prompt_syntax.parse(prompt, name)]
    if not isinstance(encoder, TextEncoder) or encoder.long_prompts != "cut":
        return None
    sizes, cuts = zip(*map(encoder.measure, texts), strict=True)
    return Length(max(sizes), encoder.max_length - 2, " AND ".join(filter(None, cuts)))
