"""Prompts longer than the text encoder: what of them is not read, told in words."""

from collections.abc import Iterator
from typing import Any

from dg2_jax.controls import arguments
from dg2_jax.serve.schemas import JobRequest
from dg2_jax.text import lengths


def notes(pipe: Any, request: JobRequest) -> list[str]:
    """One for each text of a request that the pipeline's encoder does not read to its end."""
    encoder = getattr(pipe, "text_encoder", None)  # a pipeline without one has no limit
    told = [_note(encoder, name, text) for name, text in _texts(pipe, request)]
    return list(dict.fromkeys(note for note in told if note))


def _texts(pipe: Any, request: JobRequest) -> Iterator[tuple[str, str]]:
    """All texts of a request by their fields, with the wildcards drawn for each image."""
    for i, view in enumerate(getattr(request, "anagram", None) or ()):
        yield f"anagram.{i}.prompt", view.prompt
    for name in ("prompt", "negative_prompt", "source_prompt"):
        text = getattr(request, name, None)
        if not text:
            continue
        for seed in arguments.expand_seed(request.seed, request.count):
            yield name, pipe.wildcards.drawn(text, seed, name)


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
