"""A model's text encoders: prompts in; the UNet's context, and for XL a pooled vector, out."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from dg2_jax.nn.clip import ClipText

# Prompts are cut into chunks at this word, as at the end of a chunk's room.
_BREAK = re.compile(r"\s*\bBREAK\b\s*")

Params = Any
Encoded = tuple[Float[Array, "b l d"], Float[Array, "b p"] | None]


class Chunk(NamedTuple):
    """What a text encoder takes at once.

    Attributes:
        ids: of its tokens, start, end and padding included.
        offsets: first character and last + 1 of each in the prompt; (0, 0) for those three.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]


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

    def chunks(self, prompt: str) -> list[Chunk]:
        """A prompt's tokens, in chunks that fit; at least one."""
        found, begin = [], 0
        for word in (*_BREAK.finditer(prompt), None):
            encoded = self.tokenizer.encode(prompt[begin : word.start() if word else None])
            start, *body, end = encoded.ids
            places = [(begin + i, begin + j) for i, j in encoded.offsets[1:-1]]
            room = self.length - 2
            for i in range(0, max(len(body), 1), room):
                ids = [start, *body[i : i + room], end]
                found.append(self._filled(ids, places[i : i + room]))
            begin = word.end() if word else begin
        return found

    def empty(self) -> Chunk:
        """The empty prompt."""
        return self._filled(self.tokenizer.encode("").ids, [])

    def _filled(self, ids: list[int], places: list[tuple[int, int]]) -> Chunk:
        rest = self.length - len(ids)
        nowhere = (0, 0)
        return Chunk(ids + [self.pad_id] * rest, [nowhere, *places, *[nowhere] * (rest + 1)])


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
        texts, rows = self._rows(prompts)
        longest = len(rows[0][0])
        ids = [
            np.asarray([chunk.ids for chunks in of_tower for chunk in chunks], np.int32)
            for of_tower in rows
        ]
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

    def offsets(self, prompts: Sequence[str | None]) -> Int[np.ndarray, "b l 2"]:
        """Where the tokens of `encode`'s context stand in their prompts, int32 (B, k L, 2).

        First character and last + 1; (0, 0) for start, end and padding. Raises as `encode`.
        """
        _, rows = self._rows(prompts)
        chunks = [[chunk.offsets for chunk in chunks] for chunks in rows[0]]
        return np.asarray(chunks, np.int32).reshape(len(prompts), -1, 2)

    def _rows(self, prompts: Sequence[str | None]) -> tuple[list[str], list[list[list[Chunk]]]]:
        """The texts, and for each tower and text its chunks, of which all have as many."""
        if isinstance(prompts, str) or not prompts:
            raise ValueError("prompts must be a list of at least one string")
        texts = ["" if prompt is None else prompt for prompt in prompts]
        rows = [[tower.chunks(text) for text in texts] for tower in self.towers]
        longest = max(len(chunks) for of_tower in rows for chunks in of_tower)
        for tower, of_tower in zip(self.towers, rows, strict=True):
            for chunks in of_tower:
                chunks += [tower.empty()] * (longest - len(chunks))
        return texts, rows


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
