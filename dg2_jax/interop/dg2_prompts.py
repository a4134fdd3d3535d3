"""DiffusionGen2's files of prompts (`.pt`): those of its evaluation, and its prompt banks."""

import os
from dataclasses import dataclass

import numpy as np

from dg2_jax.interop.torch_checkpoint import CheckpointError, read_torch


@dataclass(frozen=True, eq=False)
class EvaluationPrompts:
    """What its trainer draws samples of.

    Attributes:
        prompts: B texts.
        context: (B, l, d) float32, their tokens as CLIP encodes them.
        null: (l, d) float32, the tokens of the empty prompt.
    """

    prompts: tuple[str, ...]
    context: np.ndarray
    null: np.ndarray


def read_evaluation_prompts(path: str | os.PathLike) -> EvaluationPrompts:
    """Reads a file of `prompts`, `text_embd` (B, l, d) and `null_embd`, (1, l, d) or (l, d).

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or holds something else.
    """
    content = read_torch(path)
    values = content if isinstance(content, dict) else {}
    prompts = _texts(values.get("prompts"))
    arrays = [values.get(name) for name in ("text_embd", "null_embd")]
    context, null = (a.astype(np.float32) if isinstance(a, np.ndarray) else None for a in arrays)
    if null is not None and null.ndim == 3 and len(null) == 1:
        null = null[0]
    if not prompts or context is None or null is None:
        raise CheckpointError(f"{path}: it must hold prompts, text_embd and null_embd")
    if context.ndim != 3 or len(context) != len(prompts) or null.shape != context.shape[1:]:
        raise CheckpointError(
            f"{path}: of {len(prompts)} prompts, text_embd must be ({len(prompts)}, l, d) and "
            f"null_embd (1, l, d); got {context.shape} and {null.shape}"
        )
    if not np.isfinite(context).all() or not np.isfinite(null).all():
        raise CheckpointError(f"{path}: its embeddings must be finite")
    return EvaluationPrompts(prompts, context, null)


def read_bank(path: str | os.PathLike) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Reads a prompt bank: to each category its n texts and their vectors (n, d), float32.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or holds something else.
    """
    content = read_torch(path)
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path}: a prompt bank must map categories to prompts and vectors")
    bank: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for category, value in content.items():
        pair = value if isinstance(value, list | tuple) and len(value) == 2 else (None, None)
        texts, vectors = _texts(pair[0]), pair[1]
        if not isinstance(category, str) or not texts or not isinstance(vectors, np.ndarray):
            raise CheckpointError(f"{path}: category {category!r} must be [texts, vectors]")
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise CheckpointError(
                f"{path}: category {category!r} must have {len(texts)} finite vectors, "
                f"got {vectors.shape}"
            )
        bank[category] = texts, vectors.astype(np.float32)
    widths = {vectors.shape[1] for _, vectors in bank.values()}
    if len(widths) > 1:
        raise CheckpointError(f"{path}: its vectors must be of one width, got {sorted(widths)}")
    return bank


def _texts(value: object) -> tuple[str, ...]:
    fine = isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)
    return tuple(value) if fine else ()  # type: ignore[arg-type]
