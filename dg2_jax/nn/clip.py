"""CLIP's text and vision towers (Radford et al., arXiv 2103.00020), each with its projection."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dg2_jax.nn.clip_config import ClipTextConfig, ClipVisionConfig, TowerConfig
from dg2_jax.nn.transformer import TransformerLayer, layer_norm

# Statistics of the pixels that CLIP was trained on.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)

# The value that the first published configurations carry by mistake; see `ClipText.__call__`.
_LEGACY_EOS = 2


class ClipOutput(NamedTuple):
    """The output of a tower for a batch."""

    last_hidden_state: Float[Array, "b l d"]  # text: normalised unless asked not; vision: not
    pooled: Float[Array, "b d"]  # normalised: text at the end token, vision at the class token
    projected: Float[Array, "b e"] | None  # in the space both share, not of length 1


class ClipText(nnx.Module):
    """A causal transformer over token ids."""

    def __init__(self, config: ClipTextConfig, *, projection: bool = True, rngs: nnx.Rngs):
        width = config.hidden_size
        self.eos_token_id = config.eos_token_id
        self.token_embedding = nnx.Embed(config.vocab_size, width, rngs=rngs)
        self.position_embedding = nnx.Embed(config.max_position_embeddings, width, rngs=rngs)
        self.layers = _layers(config, causal=True, rngs=rngs)
        self.final_layer_norm = layer_norm(width, config.layer_norm_eps, rngs)
        self.projection = _projection(config, rngs) if projection else None

    def __call__(
        self,
        ids: Int[Array, "b l"],
        mask: Bool[Array, "b l"] | None = None,
        *,
        skipped_layers: int = 0,
        final_norm: bool = True,
    ) -> ClipOutput:
        """Encodes token ids.

        The sentence is read off at its first end token. Some early published configurations give
        `eos_token_id` 2, which no sentence ends with; the end token is then the one with the
        highest id.

        Args:
            ids: token ids, at most `max_position_embeddings` per row.
            mask: True where a token is real; padding is never attended to.
            skipped_layers: how many layers before the end `last_hidden_state` is taken (1: the
                penultimate); the sentence vectors always come from the last layer.
            final_norm: whether `last_hidden_state` is normalised.

        Raises:
            ValueError: there are not that many layers.
        """
        if not 0 <= skipped_layers <= len(self.layers):
            raise ValueError(
                f"skipped_layers must be from 0 to {len(self.layers)}, got {skipped_layers}"
            )
        x = self.token_embedding(ids) + self.position_embedding(jnp.arange(ids.shape[1]))[None]
        states = [x]
        for layer in self.layers:
            x = layer(x, mask)
            states.append(x)
        hidden = states[len(self.layers) - skipped_layers]
        x = self.final_layer_norm(x)
        if final_norm:
            hidden = self.final_layer_norm(hidden) if skipped_layers else x
        # Ids beyond the vocabulary are words that were added to it, none of them the end.
        known = jnp.where(ids < self.token_embedding.num_embeddings, ids, 0)
        is_end = known if self.eos_token_id == _LEGACY_EOS else ids == self.eos_token_id
        pooled = x[jnp.arange(len(x)), jnp.argmax(is_end, axis=1)]
        return ClipOutput(hidden, pooled, self.projection(pooled) if self.projection else None)


class ClipVision(nnx.Module):
    """A vision transformer over square patches and one class token."""

    def __init__(self, config: ClipVisionConfig, *, projection: bool = True, rngs: nnx.Rngs):
        width, epsilon, patch = config.hidden_size, config.layer_norm_eps, config.patch_size
        self.image_size = config.image_size
        self.class_embedding = nnx.Param(
            nnx.initializers.normal(0.02)(rngs.params(), (width,), jnp.float32)
        )
        self.patch_embedding = nnx.Conv(
            config.num_channels,
            width,
            (patch, patch),
            strides=patch,
            padding="VALID",
            use_bias=False,
            rngs=rngs,
        )
        positions = (config.image_size // patch) ** 2 + 1
        self.position_embedding = nnx.Embed(positions, width, rngs=rngs)
        self.pre_norm = layer_norm(width, epsilon, rngs)
        self.layers = _layers(config, causal=False, rngs=rngs)
        self.post_norm = layer_norm(width, epsilon, rngs)
        self.projection = _projection(config, rngs) if projection else None

    def __call__(self, pixels: Float[Array, "b s s c"]) -> ClipOutput:
        """Encodes square images of side `image_size`, normalised as by `preprocess`.

        Raises:
            ValueError: for another size.
        """
        if pixels.shape[1] != self.image_size:
            raise ValueError(f"pixels must have sides of {self.image_size}, not {pixels.shape[1]}")
        patches = self.patch_embedding(pixels)
        b, width = len(pixels), patches.shape[-1]
        first = jnp.broadcast_to(self.class_embedding[None, None, :], (b, 1, width))
        x = jnp.concatenate([first, patches.reshape(b, -1, width)], axis=1)
        x = self.pre_norm(x + self.position_embedding(jnp.arange(x.shape[1]))[None])
        for layer in self.layers:
            x = layer(x)
        pooled = self.post_norm(x[:, 0])
        return ClipOutput(x, pooled, self.projection(pooled) if self.projection else None)


def preprocess(images: np.ndarray, image_size: int = 224) -> np.ndarray:
    """Pixels for the vision tower: bicubic resize, centre crop, normalisation.

    Args:
        images: uint8 (B, H, W, 3), 0-255.
        image_size: S; the shorter side becomes S, and the middle of the longer one is kept.

    Returns:
        float32 (B, S, S, 3), of about zero mean and unit variance.

    Raises:
        ValueError: for another dtype or shape.
    """
    from PIL import Image

    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 (b, h, w, 3), not {images.dtype} {images.shape}")
    height, width = images.shape[1:3]
    short = min(height, width)
    height, width = image_size * height // short, image_size * width // short
    top, left = (height - image_size) // 2, (width - image_size) // 2
    out = np.empty((len(images), image_size, image_size, 3), np.float32)
    for i, image in enumerate(images):
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        out[i] = np.asarray(resized)[top : top + image_size, left : left + image_size]
    mean, std = np.array(PIXEL_MEAN, np.float32), np.array(PIXEL_STD, np.float32)
    return (out / np.float32(255) - mean[None, None, None]) / std[None, None, None]


def _layers(config: TowerConfig, *, causal: bool, rngs: nnx.Rngs) -> nnx.List:
    return nnx.List(
        TransformerLayer(
            config.hidden_size,
            config.intermediate_size,
            config.num_attention_heads,
            activation=config.hidden_act,
            epsilon=config.layer_norm_eps,
            pre_norm=True,
            causal=causal,
            rngs=rngs,
        )
        for _ in range(config.num_hidden_layers)
    )


def _projection(config: TowerConfig, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(config.hidden_size, config.projection_dim, use_bias=False, rngs=rngs)
