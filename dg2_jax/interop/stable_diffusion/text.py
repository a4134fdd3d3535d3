"""A model's text encoders: prompts in; the UNet's context, and for XL a pooled vector, out."""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from dg2_jax.interop.stable_diffusion.embeddings import Vectors, pattern
from dg2_jax.nn.clip import ClipText

# Prompts are cut into chunks at this word, as at the end of a chunk's room.
_BREAK = re.compile(r"\s*\bBREAK\b\s*")

NO_TOKEN = -1  # the id of every token of a prompt that stands for zeros

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
        num_layers: of the network.
        words: that prompts may hold beside the tokenizer's, each with where it is looked for and
            the ids of its vectors, which lie behind the vocabulary's.
    """

    graphdef: nnx.GraphDef
    tokenizer: Any
    pad_id: int
    length: int
    width: int
    has_projection: bool
    num_layers: int
    words: tuple[tuple[re.Pattern[str], tuple[int, ...]], ...] = ()

    def chunks(self, prompt: str) -> list[Chunk]:
        """A prompt's tokens, in chunks that fit; at least one."""
        chunks, begin = [], 0
        start, *_, end = self.tokenizer.encode("").ids
        for word in (*_BREAK.finditer(prompt), None):
            body, places = self._body(prompt, begin, word.start() if word else len(prompt))
            room = self.length - 2
            for i in range(0, max(len(body), 1), room):
                ids = [start, *body[i : i + room], end]
                chunks.append(self._filled(ids, places[i : i + room]))
            begin = word.end() if word else begin
        return chunks

    def _body(self, prompt: str, begin: int, stop: int) -> tuple[list[int], list[tuple[int, int]]]:
        """The tokens of a part of a prompt, without start and end, and where they stand."""
        matches = [(m, ids) for find, ids in self.words for m in find.finditer(prompt, begin, stop)]
        body: list[int] = []
        places: list[tuple[int, int]] = []
        for match, ids in (*sorted(matches, key=lambda pair: pair[0].start()), (None, ())):
            if match is not None and match.start() < begin:
                continue  # within a longer name
            encoded = self.tokenizer.encode(prompt[begin : match.start() if match else stop])
            body += encoded.ids[1:-1]
            places += [(begin + i, begin + j) for i, j in encoded.offsets[1:-1]]
            if match is not None:
                body += ids
                places += [match.span()] * len(ids)
                begin = match.end()
        return body, places

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
        return sum(self.widths)

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the parts of the context that the encoders make."""
        return tuple(tower.width for tower in self.towers)

    @property
    def length(self) -> int:
        """Tokens of a chunk, its start and end tokens included."""
        return self.towers[0].length

    @property
    def most_clip_skip(self) -> int:
        """The most layers that `encode` may skip: one is left."""
        return min(tower.num_layers for tower in self.towers) - 1 - self.penultimate

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
        return self.encode_ids(self.token_ids(prompts), clip_skip)

    def token_ids(self, prompts: Sequence[str | None]) -> Int[np.ndarray, "b l t"]:
        """What `encode` gives its encoders: int32 (B, k L, encoders), -1 for a prompt of zeros."""
        _, rows = self._rows(prompts)
        ids = [[[i for chunk in text for i in chunk.ids] for text in tower] for tower in rows]
        stacked = np.moveaxis(np.asarray(ids, np.int32), 0, -1)
        if self.zeros_for_no_prompt:
            stacked[[prompt is None for prompt in prompts]] = NO_TOKEN
        return stacked

    def encode_ids(self, ids: Int[Array | np.ndarray, "b l t"], clip_skip: int = 0) -> Encoded:
        """Context and pooled vector of `token_ids`; see `encode`."""
        ids = jnp.asarray(ids)
        chunks = jnp.maximum(ids, 0).reshape(-1, self.length, len(self.towers))
        networks = tuple((tower.graphdef, tower.has_projection) for tower in self.towers)
        of_towers = tuple(jnp.moveaxis(chunks, -1, 0))
        context, pooled = _forward(networks, self.params, of_towers, self.penultimate, clip_skip)
        context = context.reshape(len(ids), -1, context.shape[-1])
        pooled = None if pooled is None else pooled[:: len(chunks) // len(ids)]
        if self.zeros_for_no_prompt:
            given = ids[:, 0, 0] != NO_TOKEN
            context = jnp.where(given[:, None, None], context, 0.0)
            pooled = None if pooled is None else jnp.where(given[:, None], pooled, 0.0)
        return context, pooled

    def with_words(self, words: Mapping[str, Vectors]) -> "TextEncoders":
        """The encoders that know more words: of each, the vectors of each encoder."""
        towers, params = [], []
        for i, (tower, weights) in enumerate(zip(self.towers, self.params, strict=True)):
            table = weights["token_embedding"]["embedding"]
            known, rows = [*tower.words], [table]
            for name in sorted(words, key=len, reverse=True):
                first, vectors = sum(map(len, rows)), words[name][i]
                known.append((pattern(name), tuple(range(first, first + len(vectors)))))
                rows.append(jnp.asarray(vectors, table.dtype))
            embedding = {**weights["token_embedding"], "embedding": jnp.concatenate(rows)}
            params.append({**weights, "token_embedding": embedding})
            towers.append(dataclasses.replace(tower, words=tuple(known)))
        return dataclasses.replace(self, towers=tuple(towers), params=tuple(params))

    def count_chunks(self, prompts: Sequence[str | None]) -> list[int]:
        """The chunks that each prompt needs; `encode` gives each as many as the longest."""
        return [max(len(tower.chunks(prompt or "")) for tower in self.towers) for prompt in prompts]

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
    networks: tuple[tuple[nnx.GraphDef, bool], ...],
    params: tuple[Params, ...],
    ids: tuple[Array, ...],
    penultimate: bool,
    clip_skip: int,
) -> Encoded:
    """Of rows of token ids, one array for each tower."""
    contexts, pooled = [], None
    for (graphdef, projects), weights, tokens in zip(networks, params, ids, strict=True):
        # Weights stored in half precision are used in float32: it costs little here.
        weights = jax.tree.map(lambda w: w.astype(jnp.float32), weights)
        network: ClipText = nnx.merge(graphdef, weights)
        out = network(tokens, skipped_layers=clip_skip + penultimate, final_norm=not penultimate)
        contexts.append(out.last_hidden_state)
        pooled = out.projected if projects else pooled
    return jnp.concatenate(contexts, axis=-1), pooled
