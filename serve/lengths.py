"""Prompts longer than the text encoder: what of them is not read, told in words."""

from typing import Any

from dg2_jax.text import lengths
from serve.schemas import JobRequest

_TEXTS = ("prompt", "negative_prompt", "source_prompt")


def notes(pipe: Any, request: JobRequest) -> list[str]:
    """One for each text of a request that the pipeline's encoder does not read to its end."""
    encoder = getattr(pipe, "text_encoder", None)  # a pipeline without one has no limit
    texts = {name: getattr(request, name, None) or "" for name in _TEXTS}
    for i, view in enumerate(getattr(request, "anagram", None) or ()):
        texts[f"anagram.{i}.prompt"] = view.prompt
    return [told for name, text in texts.items() if text and (told := _note(encoder, name, text))]


def _note(encoder: Any, name: str, text: str) -> str | None:
    try:
        length = lengths.measure(encoder, text, name)
    except ValueError:  # the pipeline says what is wrong with it
        return None
    if length is None or not length.cut:
        return None
    return (
        f"{name}: {length.tokens} tokens, of which {length.limit} are read; left out: {length.cut}"
    )
