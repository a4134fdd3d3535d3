"""Encodes prompts as the compiled program takes them."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dg2_jax.checks import ParameterError
from dg2_jax.models.adapters import Library
from dg2_jax.settings import Settings
from dg2_jax.text import prompt_syntax, prompt_tags, wildcards
from dg2_jax.text.interface import Encoding, PromptEncoder
from dg2_jax.text.prompt_syntax import SubPrompt
from dg2_jax.text.prompt_tags import LoraTag
from dg2_jax.text.wildcards import Wildcards
from dg2_jax.typing import Context, ContextMask

_BREAK = re.compile(r"\bBREAK\b")


class Text(NamedTuple):
    """Encoded texts.

    Attributes:
        context: token embeddings.
        mask: True where a token is attended to; None: everywhere.
        pooled: one vector per text, for the networks that take it; None of encoders without.
        is_null: True for an empty text, which a learnt null text replaces.
    """

    context: Context
    mask: ContextMask | None
    pooled: Float[Array, "b e"] | None
    is_null: Bool[Array, " b"]


class TextInputs(NamedTuple):
    """The two texts of each image.

    The batch n is the images', times the views of an anagram (view by view), times two for an
    edit that follows its source (the edits, then the sources). With p composed prompts per image,
    `prompt` holds p·n texts: every image's first, then every image's second, and so on.
    """

    prompt: Text
    negative_prompt: Text


def call_prompt(
    prompt: str | Sequence[str] | None, settings: Settings
) -> str | Sequence[str] | None:
    """The prompt of a call; an anagram brings its own.

    Raises:
        ParameterError: one is given besides the anagram's.
    """
    if settings.anagram is None:
        return prompt
    if prompt not in ("", None):
        raise ParameterError("prompt", "must be left out with anagram, which has its own prompts")
    return " | ".join(text for text, _ in settings.anagram)


def check(
    settings: Settings,
    prompts: Iterable[str],
    negative_prompts: Iterable[str],
    encoder: PromptEncoder | None = None,
) -> None:
    """Checks the syntax of all texts of a call.

    Args:
        settings: of the call, with the texts of its anagram and of its inversion.
        prompts: with their tags; those of an anagram are not among them.
        negative_prompts: likewise.
        encoder: the text encoder; None where it is not known.

    Raises:
        ParameterError: naming the parameter whose syntax is wrong, or that joins several texts by
            AND where it must not.
    """
    texts = {
        "prompt": () if settings.anagram is not None else prompts,
        "negative_prompt": negative_prompts,
        "source_prompt": (settings.source_prompt,),
        "anagram": (text for text, _ in settings.anagram or ()),
    }
    for name, of_name in texts.items():
        for prompt in dict.fromkeys(of_name):
            parts = prompt_syntax.parse(prompt_tags.split(prompt, name)[0], name)
            if len(parts) > 1 and (name != "prompt" or settings.inversion == "ddpm"):
                raise ParameterError(name, "must not hold AND here")
            whole = encoder is not None and not encoder.reads_break
            if whole and any(_BREAK.search(part.text) for part in parts):
                raise ParameterError(
                    name, "must not hold BREAK: this model's encoder reads a prompt as a whole"
                )


def encode(
    encoder: PromptEncoder, prompts: Sequence[str], negative_prompts: Sequence[str]
) -> TextInputs:
    """One prompt and one negative prompt per image, with the syntax of `prompt_syntax` but AND.

    Raises:
        ParameterError: a prompt has wrong syntax or joins several by AND.
    """
    texts, weights = compose(encoder, prompts, negative_prompts, len(prompts))
    if weights.shape[1] > 1:
        raise ParameterError("prompt", "must not hold AND here")
    return texts


def compose(
    encoder: PromptEncoder,
    prompts: Sequence[str],
    negative_prompts: Sequence[str],
    num_images: int,
) -> tuple[TextInputs, Float[np.ndarray, "b p"]]:
    """The texts of a batch, and the weights of the p prompts per image joined by AND.

    Images with fewer prompts than others are filled up with null texts of weight 0.

    Args:
        encoder: the text encoder.
        prompts: in the order of the task, one or more per image.
        negative_prompts: one for each of `prompts`.
        num_images: of the batch; prompts may hold AND only if there is one per image.

    Raises:
        ParameterError: a prompt has wrong syntax, or AND is not allowed here.
    """
    parsed = [prompt_syntax.parse(prompt) for prompt in prompts]
    most = max(map(len, parsed))
    if most > 1 and len(parsed) > num_images:
        raise ParameterError("prompt", "cannot hold AND with anagram or inversion 'ddpm'")
    filled = [[*parts, *[SubPrompt("", 0.0)] * (most - len(parts))] for parts in parsed]
    texts = _encode(
        encoder,
        [parts[i] for i in range(most) for parts in filled],
        [_negative(prompt) for prompt in negative_prompts],
    )
    weights = [[part.weight for part in parts] for parts in filled[:num_images]]
    return texts, np.asarray(weights, np.float32)


def _negative(prompt: str) -> SubPrompt:
    part, *others = prompt_syntax.parse(prompt, "negative_prompt")
    if others:
        raise ParameterError("negative_prompt", "must not hold AND")
    return part


def _encode(
    encoder: PromptEncoder, prompts: Sequence[SubPrompt], negatives: Sequence[SubPrompt]
) -> TextInputs:
    unique = list(dict.fromkeys([*prompts, *negatives]))
    texts = [part.text for part in unique]
    context, mask, pooled = encoder.encode(texts)
    if any(part.spans for part in unique):
        pairs = zip(encoder.offsets(texts), unique, strict=True)
        weights = np.stack([prompt_syntax.token_weights(at, part.spans) for at, part in pairs])
        context = encoder.weighted(context, jnp.asarray(weights), mask)
    encoded = jax.tree.map(np.asarray, Encoding(context, mask, pooled))
    place = {part: i for i, part in enumerate(unique)}

    def select(parts: Sequence[SubPrompt]) -> Text:
        rows = np.array([place[part] for part in parts])
        is_null = np.array([not part.text.strip() for part in parts])
        return Text(*jax.device_put((*jax.tree.map(lambda array: array[rows], encoded), is_null)))

    return TextInputs(select(prompts), select(negatives))


def drawn(
    lists: Wildcards, settings: Settings, prompts: list[str], negatives: list[str], seeds: list[int]
) -> tuple[list[str], list[str]]:
    """The prompts of each image; raises ParameterError as `Wildcards.drawn`."""
    wildcards.refuse([settings.source_prompt], "source_prompt")
    wildcards.refuse([text for text, _ in settings.anagram or ()], "anagram")
    texts = ("prompt", prompts), ("negative_prompt", negatives)
    found = (
        [lists.drawn(text, seed, name) for text, seed in zip(of_name, seeds, strict=True)]
        for name, of_name in texts
    )
    return next(found), next(found)


def tags(
    library: Library, settings: Settings, prompts: list[str], negatives: list[str]
) -> list[tuple[LoraTag, ...]]:
    """The adapters that each prompt names; raises ParameterError where one is not there."""
    prompt_tags.refuse(negatives, "negative_prompt")
    prompt_tags.refuse([settings.source_prompt], "source_prompt")
    found = [prompt_tags.split(prompt)[1] for prompt in prompts]
    library.check(tag for of_image in found for tag in of_image)
    return found
