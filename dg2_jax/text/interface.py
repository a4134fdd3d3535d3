"""What a model's text encoder is to everything that samples with it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dg2_jax.typing import Context, ContextMask


class Encoding(NamedTuple):
    """What the denoiser and the prompt bank use of a list of B prompts."""

    context: Float[Array, "b l d"]  # token embeddings
    mask: Bool[Array, "b l"] | None  # True where a token is attended to; None: everywhere
    pooled: Float[Array, "b e"] | None  # one vector per prompt; None where there is none


@runtime_checkable
class PromptEncoder(Protocol):
    """A frozen text encoder: `dg2_jax.text.encoder.TextEncoder`, or Stable Diffusion's."""

    @property
    def context_dim(self) -> int:
        """Width of a token embedding."""

    @property
    def most_clip_skip(self) -> int:
        """The most layers that `with_clip_skip` takes; 0 where none can be skipped."""

    @property
    def reads_break(self) -> bool:
        """Whether the word BREAK parts a prompt into chunks that are encoded apart."""

    def with_clip_skip(self, layers: int) -> "PromptEncoder":
        """The encoder whose embeddings come from so many layers before the usual one.

        Raises:
            ParameterError: it has no such layer.
        """

    def encode(self, prompts: Sequence[str]) -> Encoding:
        """Encodes prompts; a prompt's result does not depend on the others.

        Raises:
            ValueError: `prompts` is empty, or not a list of strings.
        """

    def offsets(self, prompts: Sequence[str]) -> Int[np.ndarray, "b l 2"]:
        """Where the tokens of `encode` stand in their prompts: first character and last + 1.

        (0, 0) for start, end and padding. Raises as `encode`.
        """

    def weighted(
        self, context: Context, weights: Float[Array, "b l"], mask: ContextMask | None
    ) -> Context:
        """A context whose tokens count as much as their weights say; 1 leaves a token as it is."""
