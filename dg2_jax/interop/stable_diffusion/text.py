"""A model's text encoders: prompts in; the UNet's context, and for XL a pooled vector, out."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from dg2_jax.nn.clip import ClipText

# Prompts are cut into chunks at this word, as at the end of a chunk's room.
BREAK = "BREAK"

Params = Any
Encoded = tuple[Float[Array, "b l d"], Float[Array, "b p"] | None]


@dataclasses.dataclass(frozen=True, eq=False)
class TextTower:
    """A CLIP text encoder with its tokenizer.

    Attributes:
        graphdef: the network's structure.
        tokenizer: a `tokenizers.Tokenizer` that adds the start and end token and does not pad.
        pad_id: the id that prompts are filled up with.
        length: tokens of a chunk, its start and end tokens included.
        width: of a token embedding.
        has_projection: whether it makes a pooled vector.
    """

    graphdef: nnx.GraphDef
    tokenizer: Any
    pad_id: int
    length: int
    width: int
    has_projection: bool

    def chunks(self, prompt: str) -> list[list[int]]:
        """Token ids of a prompt, in chunks that fit; at least one."""
        found = []
        for part in re.split(rf"\s*\b{BREAK}\b\s*", prompt):
            start, *body, end = self.tokenizer.encode(part).ids
            room = self.length - 2
            pieces = [body[i : i + room] for i in range(0, len(body), room)] or [[]]
            found += [self._filled([start, *piece, end]) for piece in pieces]
        return found

    def empty(self) -> list[int]:
        """Token ids of the empty prompt."""
        return self._filled(self.tokenizer.encode("").ids)

    def _filled(self, ids: list[int]) -> list[int]:
        return ids + [self.pad_id] * (self.length - len(ids))


@dataclasses.dataclass(frozen=True, eq=False)
class TextEncoders:
    """One text encoder, or two whose embeddings are joined along their width.

    Attributes:
        towers: the encoders in the order of their embeddings.
        params: of each, in the dtype in which they are stored.
        penultimate: XL: embeddings of the last layer but one, not normalised; else of the last
            layer, normalised.
        zeros_for_no_prompt: `None` as a prompt gives zeros, else what "" gives.
    """

    towers: tuple[TextTower, ...]
    params: tuple[Params, ...]
    penultimate: bool
    zeros_for_no_prompt: bool = False

    @property
    def width(self) -> int:
        """Of the context."""
        return sum(tower.width for tower in self.towers)

    def encode(self, prompts: Sequence[str | None], clip_skip: int = 0) -> Encoded:
        """Context and pooled vector of prompts.

        A prompt that does not fit is encoded in chunks, each between a start and an end token, and
        their embeddings are joined, as the word BREAK joins those of what stands before and after
        it. Prompts with fewer chunks than the longest are filled up with empty ones. The pooled
        vector is the first chunk's.

        Args:
            prompts: B prompts; None is no prompt.
            clip_skip: layers before the one that embeddings usually come from.

        Returns:
            Context (B, k L, D), and pooled (B, P), None where no encoder makes one; float32.

        Raises:
            ValueError: there are no prompts, or the encoders have no such layer.
        """
        if isinstance(prompts, str) or not prompts:
            raise ValueError("prompts must be a list of at least one string")
        texts = ["" if prompt is None else prompt for prompt in prompts]
        chunks = [[tower.chunks(text) for text in texts] for tower in self.towers]
        longest = max(len(pieces) for of_tower in chunks for pieces in of_tower)
        ids = []
        for tower, of_tower in zip(self.towers, chunks, strict=True):
            rows = [pieces + [tower.empty()] * (longest - len(pieces)) for pieces in of_tower]
            ids.append(np.asarray(rows, np.int32).reshape(len(texts) * longest, tower.length))
        context, pooled = _forward(
            self.towers, self.params, tuple(ids), self.penultimate, clip_skip
        )
        context = context.reshape(len(texts), -1, context.shape[-1])
        pooled = None if pooled is None else pooled[::longest]
        if self.zeros_for_no_prompt and None in prompts:
            given = jnp.asarray([prompt is not None for prompt in prompts])
            context = jnp.where(given[:, None, None], context, 0.0)
            pooled = None if pooled is None else jnp.where(given[:, None], pooled, 0.0)
        return context, pooled


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _forward(
    towers: tuple[TextTower, ...],
    params: tuple[Params, ...],
    ids: tuple[Array, ...],
    penultimate: bool,
    clip_skip: int,
) -> Encoded:
    """Of rows of token ids, one array for each tower."""
    contexts, pooled = [], None
    for tower, weights, tokens in zip(towers, params, ids, strict=True):
        # Weights stored in half precision are used in float32: it costs little here.
        weights = jax.tree.map(lambda w: w.astype(jnp.float32), weights)
        network: ClipText = nnx.merge(tower.graphdef, weights)
        out = network(tokens, skipped_layers=clip_skip + penultimate, final_norm=not penultimate)
        contexts.append(out.last_hidden_state)
        pooled = out.projected if tower.has_projection else pooled
    return jnp.concatenate(contexts, axis=-1), pooled
