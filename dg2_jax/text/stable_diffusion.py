"""Stable Diffusion's text encoders, as everything that samples knows text encoders."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dg2_jax.checks import check_int
from dg2_jax.interop.stable_diffusion.embeddings import Vectors
from dg2_jax.interop.stable_diffusion.text import TextEncoders
from dg2_jax.text.encoder import check_prompts
from dg2_jax.text.interface import Encoding
from dg2_jax.typing import Context, ContextMask


@dataclasses.dataclass(frozen=True, eq=False)
class StableDiffusionText:
    """A `PromptEncoder` of one or two of CLIP's text encoders.

    An empty prompt is zeros where the model was trained so, else what "" is encoded to. Prompts
    beyond 75 tokens, and what BREAK parts, go in chunks; prompts with fewer chunks than others of
    the call are filled up with tokens that nothing attends to.

    Attributes:
        name: where they came from.
        encoders: the encoders.
        clip_skip: layers before the one that embeddings usually come from.
    """

    name: str
    encoders: TextEncoders
    clip_skip: int = 0

    @property
    def context_dim(self) -> int:
        """Width of a token embedding."""
        return self.encoders.width

    @property
    def reads_break(self) -> bool:
        """See `PromptEncoder`."""
        return True

    @property
    def most_clip_skip(self) -> int:
        """See `PromptEncoder`."""
        return self.encoders.most_clip_skip

    def with_clip_skip(self, layers: int) -> "StableDiffusionText":
        """See `PromptEncoder`."""
        check_int("clip_skip", layers, 0, self.most_clip_skip)
        return dataclasses.replace(self, clip_skip=layers)

    def with_words(self, words: Mapping[str, Vectors]) -> "StableDiffusionText":
        """The encoder that knows more words, see `TextEncoders.with_words`."""
        return dataclasses.replace(self, encoders=self.encoders.with_words(words))

    def encode(self, prompts: Sequence[str]) -> Encoding:
        """See `PromptEncoder`."""
        check_prompts(prompts)
        given = [prompt if prompt.strip() else None for prompt in prompts]
        # Numbers of rows are compiled for, so there are few of them.
        rows = 1 << (len(given) - 1).bit_length()
        filled = [*given, *[None] * (rows - len(given))]
        context, pooled = self.encoders.encode(filled, self.clip_skip)
        counts = np.array(self.encoders.count_chunks(given))
        chunk = np.arange(context.shape[1]) // self.encoders.length
        mask = chunk[None, :] < counts[:, None]
        return Encoding(
            context[: len(given)],
            None if mask.all() else jnp.asarray(mask),
            None if pooled is None else pooled[: len(given)],
        )

    def token_ids(self, prompts: Sequence[str]) -> Int[np.ndarray, "b l t"]:
        """What the encoders make of prompts' tokens, see `TextEncoders.token_ids`."""
        check_prompts(prompts)
        return self.encoders.token_ids([p if p.strip() else None for p in prompts])

    def offsets(self, prompts: Sequence[str]) -> Int[np.ndarray, "b l 2"]:
        """See `PromptEncoder`."""
        check_prompts(prompts)
        return self.encoders.offsets(prompts)

    def weighted(
        self, context: Context, weights: Float[Array, "b l"], mask: ContextMask | None
    ) -> Context:
        """Numbers z become w z, times what restores the mean of a chunk of one encoder.

        So AUTOMATIC1111's web UI does it. A mean that changes its sign is not restored.
        """
        batch, tokens, _ = context.shape
        length = self.encoders.length
        parts, begin = [], 0
        for width in self.encoders.widths:
            part = context[:, :, begin : begin + width]
            chunks = part.reshape(batch, tokens // length, length, width)
            changed = chunks * weights.reshape(batch, -1, length, 1)
            old, new = (jnp.mean(a, axis=(2, 3), keepdims=True) for a in (chunks, changed))
            scale = jnp.where(old * new > 0, old / jnp.where(new == 0, 1.0, new), 1.0)
            parts.append((changed * scale).reshape(batch, tokens, width))
            begin += width
        return jnp.concatenate(parts, axis=-1)
