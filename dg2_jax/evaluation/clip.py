"""CLIP as a judge of pictures, if its weights are at hand: features, and agreement with a text.

The embedded model is measured by the probe; these figures compare with published ones.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from dg2_jax.interop import hf_text
from dg2_jax.nn.clip import preprocess
from dg2_jax.text.encoder import CLIP, TextEncoder, load_text_encoder

_BATCH = 16


class ClipJudge:
    """Both towers of a CLIP."""

    def __init__(self, source: str):
        """Loads CLIP.

        Args:
            source: "clip" (openai/clip-vit-base-patch32), or a folder or hub id of another.

        Raises:
            FileNotFoundError: naming the files that are missing.
            ValueError: it is not a complete CLIP.
        """
        self._text: TextEncoder = load_text_encoder(source)
        folder = hf_text.find_folder(CLIP if source == "clip" else source)
        vision, self._config = hf_text.load_clip_vision(folder)
        graphdef, self._params = nnx.split(vision)

        @jax.jit
        def look(params: nnx.State, pixels: Array) -> Array:
            out = nnx.merge(graphdef, params)(pixels)
            if out.projected is None:
                raise ValueError(f"{folder} must hold a whole CLIP; its vision tower stands alone")
            return out.projected / jnp.linalg.norm(out.projected, axis=-1, keepdims=True)

        self._look = look

    def images(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n e"]:
        """Embeddings of unit length, after CLIP's own bicubic resize and crop."""
        features = []
        for start in range(0, len(images), _BATCH):
            batch = preprocess(images[start : start + _BATCH], self._config.image_size)
            padded = np.pad(batch, [(0, _BATCH - len(batch)), (0, 0), (0, 0), (0, 0)])
            features.append(np.asarray(self._look(self._params, padded))[: len(batch)])
        return np.concatenate(features)

    def texts(self, prompts: Sequence[str]) -> Float[np.ndarray, "n e"]:
        """Embeddings of unit length."""
        return np.asarray(self._text.encode(list(prompts)).pooled)


def clip_score(images: Float[np.ndarray, "n e"], texts: Float[np.ndarray, "m e"]) -> float:
    """Mean of 100 max(cos, 0) over pairs of embeddings (Hessel et al., arXiv 2104.08718).

    The factor is the 100 of common implementations, not the paper's 2.5.

    Raises:
        ValueError: there is not one text per image.
    """
    if images.shape != texts.shape:
        raise ValueError(f"images and texts must be alike, got {images.shape} and {texts.shape}")
    return float(100.0 * np.maximum(np.sum(images * texts, axis=-1), 0.0).mean())
