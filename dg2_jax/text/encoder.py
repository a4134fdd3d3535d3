"""Text encoders: prompts in; token embeddings, mask and a sentence vector out.

    encoder = load_text_encoder("minilm")
    context, mask, pooled = encoder.encode(["a volcano at night"])

Every encoder is a `TextEncoder`. They differ only in data (weights, tokenizer, a pure forward
function), so callers need not know which one they hold.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dg2_jax.checks import check_int
from dg2_jax.nn.pooling import l2_normalize
from dg2_jax.text import prompt_syntax
from dg2_jax.text.interface import Encoding
from dg2_jax.typing import Context, ContextMask

_BATCH = 256  # rows of one forward pass


class Tokens(NamedTuple):
    """Prompts as token ids, padded to L."""

    ids: np.ndarray  # int32 (B, L)
    mask: np.ndarray  # bool (B, L), True where a token is real


@dataclasses.dataclass(frozen=True, eq=False)
class TextEncoder:
    """A frozen text encoder.

    Attributes:
        name: it was loaded by.
        context_dim: D, width of a token embedding.
        max_length: L, tokens of a prompt, including its start and end tokens.
        tokenizer: a `tokenizers.Tokenizer` that adds the start and end token and does not pad.
        pad_id: the id of padding.
        forward: compiled (params, ids (b, l), mask (b, l)) -> (context (b, l, D), pooled (b, E)),
            such as a `Forward`.
        params: the weights.
        lengths: ascending row lengths that `forward` is compiled for; the last is `max_length`. A
            prompt runs at the shortest length that holds it, and the result is padded with zeros.
        long_prompts: "cut" drops tokens beyond the limit, with a warning; "chunk" encodes the
            prompt in pieces of L - 2 tokens and joins their embeddings, so that L grows.
        mask_padding: if False, `encode` marks padding as real, for denoisers that were trained to
            attend to it.
    """

    name: str
    context_dim: int
    max_length: int
    tokenizer: Any
    pad_id: int
    forward: Callable[[Any, Array, Array], tuple[Array, Array]]
    params: Any
    lengths: tuple[int, ...]
    long_prompts: str = "cut"
    mask_padding: bool = True

    def __post_init__(self):
        if self.long_prompts not in ("cut", "chunk"):
            raise ValueError(f"long_prompts must be 'cut' or 'chunk', not {self.long_prompts!r}")

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Token ids and mask, (B, L); with "chunk", (B, k L) for the k pieces of the longest.

        Raises:
            ValueError: if `prompts` is empty, or not a list of strings. An empty string is fine:
                it is the null prompt.
        """
        rows, pieces = self._rows(prompts)
        tokens = self._pad(rows, self.max_length)
        return Tokens(*(array.reshape(len(prompts), pieces * self.max_length) for array in tokens))

    def offsets(self, prompts: Sequence[str]) -> np.ndarray:
        """The positions of the tokens of `tokenize` in their prompts, int32 (B, L, 2).

        First character and last + 1; (0, 0) for start, end and padding.

        Raises:
            ValueError: as `tokenize`.
        """
        check_prompts(prompts)
        split = [self._pieces(e.offsets) for e in self.tokenizer.encode_batch(prompts)]
        out = np.zeros((len(prompts), max(map(len, split)), self.max_length, 2), np.int32)
        for i, pieces in enumerate(split):
            for j, piece in enumerate(pieces):
                out[i, j, : len(piece)] = piece
        return out.reshape(len(prompts), -1, 2)

    def measure(self, prompt: str) -> tuple[int, str]:
        """The tokens of a prompt, without start and end, and its text beyond `max_length`."""
        encoded = self.tokenizer.encode(prompt)
        return len(encoded.ids) - 2, self._beyond(prompt, encoded)

    def encode(self, prompts: Sequence[str]) -> Encoding:
        """Encodes prompts; a prompt's result does not depend on the others (to about 1e-6).

        Any number of prompts may be given; they run sorted by length, 256 at a time. The result
        holds B x L x D float32 numbers, so split a hundred thousand captions into several calls.

        Args:
            prompts: B prompts; see `tokenize`.

        Returns:
            Context (B, L, D) (zeros where padding was not run), mask (B, L) and pooled (B, E). With
            "chunk", L is k times as long, and pooled is the normalised mean over the pieces.

        Raises:
            ValueError: as `tokenize`.
        """
        rows, pieces = self._rows(prompts)
        context = np.zeros((len(rows), self.max_length, self.context_dim), np.float32)
        pooled: np.ndarray | None = None
        for length, index in self._batches(rows):
            tokens = self._pad([rows[i] for i in index], length, _power_of_two(len(index)))
            hidden, vectors = self.forward(self.params, *jax.device_put((tokens.ids, tokens.mask)))
            if pooled is None:
                pooled = np.zeros((len(rows), vectors.shape[1]), np.float32)
            context[index, :length] = hidden[: len(index)]
            pooled[index] = vectors[: len(index)]
        assert pooled is not None  # at least one row is not empty
        mask = self._pad(rows, self.max_length).mask
        if not self.mask_padding:
            mask = np.ones_like(mask)
        return self._join(context, mask, pooled, pieces)

    def weighted(
        self, context: Context, weights: Float[Array, "b l"], mask: ContextMask | None
    ) -> Context:
        """See `prompt_syntax.apply_weights`."""
        assert mask is not None  # `encode` makes one
        return prompt_syntax.apply_weights(context, weights, mask)

    @property
    def reads_break(self) -> bool:
        """See `PromptEncoder`."""
        return False

    @property
    def most_clip_skip(self) -> int:
        """0: the denoisers were trained with the last layer alone."""
        return 0

    def with_clip_skip(self, layers: int) -> "TextEncoder":
        """Itself; raises ParameterError unless `layers` is 0."""
        check_int("clip_skip", layers, 0, 0)
        return self

    def _join(
        self, context: np.ndarray, mask: np.ndarray, pooled: np.ndarray, pieces: int
    ) -> Encoding:
        """Joins the pieces of each prompt; an absent piece has no weight."""
        count = len(context) // pieces
        if pieces > 1:
            sums = pooled.reshape(count, pieces, -1).sum(axis=1)
            pooled = np.asarray(l2_normalize(jnp.asarray(sums)))
        context = context.reshape(count, pieces * self.max_length, -1)
        return Encoding(*jax.device_put((context, mask.reshape(count, -1), pooled)))

    def _batches(self, rows: list[list[int]]) -> Iterator[tuple[int, np.ndarray]]:
        """Compiled length and row numbers of each forward pass; empty rows are skipped."""
        sizes = np.array([len(row) for row in rows])
        shorter = 0
        for length in self.lengths:
            index = np.flatnonzero((sizes > shorter) & (sizes <= length))
            for start in range(0, len(index), _BATCH):
                yield length, index[start : start + _BATCH]
            shorter = length

    def _pad(self, rows: list[list[int]], length: int, count: int | None = None) -> Tokens:
        count = len(rows) if count is None else count
        ids = np.full((count, length), self.pad_id, np.int32)
        mask = np.zeros((count, length), bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = True
        return Tokens(ids, mask)

    def _rows(self, prompts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Ids of every piece (some empty), prompt by prompt, and the pieces per prompt."""
        check_prompts(prompts)
        room = self.max_length - 2
        split = []
        for prompt, encoded in zip(prompts, self.tokenizer.encode_batch(prompts), strict=True):
            lost = self._beyond(prompt, encoded)
            if lost and self.long_prompts == "cut":
                warnings.warn(
                    f"the prompt is longer than the {room} tokens that {self.name!r} takes; "
                    f"ignored: {lost!r}",
                    stacklevel=3,
                )
            split.append(self._pieces(encoded.ids))
        longest = max(map(len, split))
        return [row for rows in split for row in rows + [[]] * (longest - len(rows))], longest

    def _beyond(self, prompt: str, encoded: Any) -> str:
        last = self.max_length - 1  # the place of the end token
        return prompt[encoded.offsets[last][0] :] if len(encoded.ids) > last + 1 else ""

    def _pieces(self, tokens: list) -> list[list]:
        """A prompt's tokens, cut or in chunks, each piece between a start and an end token."""
        room = self.max_length - 2
        start, *body, end = tokens
        if self.long_prompts == "cut":
            body = body[:room]
        pieces = [body[i : i + room] for i in range(0, len(body), room)] or [[]]
        return [[start, *piece, end] for piece in pieces]


def check_prompts(prompts: object) -> None:
    """Raises ValueError unless `prompts` is a list (or tuple) of at least one string."""
    if isinstance(prompts, str):
        raise ValueError("prompts must be a list of strings, not one string: write [prompt]")
    if not isinstance(prompts, list | tuple) or not prompts:
        raise ValueError(f"prompts must be a list of at least one string, not {prompts!r:.80}")
    for i, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise ValueError(f"prompts[{i}] must be a string, not {prompt!r:.80}")


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
